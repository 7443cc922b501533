"""Splits: the parts of a data set, and the rows that stay together."""
