"""A run: its folder, its preparation, its training, its evaluation."""
