"""What people look at besides tables: curves, episode sheets, pages. Empty so far."""
