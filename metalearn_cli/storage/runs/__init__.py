"""Run folders, checkpoints and sinks."""
