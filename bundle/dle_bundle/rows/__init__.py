"""JSON rows of a request: decoded in one pass, or every fault of every row."""
