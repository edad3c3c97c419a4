"""What lies on disk: prepared datasets, checkpoints, run folders, downloads, archives."""
