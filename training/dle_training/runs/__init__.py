"""A run: its folder, preparation, training and evaluation."""
