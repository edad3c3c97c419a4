"""Reads and writes everything on disk: prepared datasets, checkpoints, run folders, downloads, archives."""
