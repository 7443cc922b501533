"""Predictions without a server: the work of dle-predict, and of dle_serving.load."""
