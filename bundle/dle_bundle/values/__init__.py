"""Parses single values (numbers, dates, categories, missing values) by the same rules for files and requests."""
