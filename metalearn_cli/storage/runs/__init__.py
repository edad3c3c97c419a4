"""Reads and writes run folders and checkpoints, and opens sinks."""
