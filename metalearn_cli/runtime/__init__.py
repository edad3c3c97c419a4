"""Runs learners: data/ samples tasks, machine/ computes them, run/ trains, use/ measures and adapts."""
