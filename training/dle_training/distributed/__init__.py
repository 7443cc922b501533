"""Training and searching on a Ray cluster."""
