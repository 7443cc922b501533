"""Image files: the supported formats, and decoding into pixels."""
