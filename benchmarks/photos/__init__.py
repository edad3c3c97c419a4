"""What pretrained features are worth on photos, row by row: benchmarks/PHOTOS.md."""
