"""The HTTP routes, one file each, and what they have in common."""
