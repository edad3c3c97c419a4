"""Files that are whole or not there, and that one process writes at a time."""
