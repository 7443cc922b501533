"""Image files: which formats are read, and how a file becomes pixels."""
