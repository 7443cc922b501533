"""Searching for better settings: what may vary between the trials of a study."""
