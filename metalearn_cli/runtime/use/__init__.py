"""What is done with a trained learner: measure it, adapt it, ask it, export it."""
