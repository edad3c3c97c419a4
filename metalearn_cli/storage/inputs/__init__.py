"""Reads pictures from their sources: folders, archives, containers, downloads."""
