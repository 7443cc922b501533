"""Decodes the JSON rows of a request, or finds every fault of every row."""
