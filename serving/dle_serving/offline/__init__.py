"""Predictions for the rows of a file: the work of dle-predict."""
