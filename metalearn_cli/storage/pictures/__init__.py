"""Recognises and decodes a single picture file."""
