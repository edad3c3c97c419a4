"""Measurements side by side with other ways to do the same; never timed tests."""
