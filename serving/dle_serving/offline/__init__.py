"""Answers to the rows of a file: what dle-predict does."""
