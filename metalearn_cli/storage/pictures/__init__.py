"""One picture: what kind of file it is, and how it becomes pixels."""
