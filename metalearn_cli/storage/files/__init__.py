"""Writes files whole or not at all, and lets one process at a time write."""
