"""Columns to the tensors that a network takes: each step is fitted in numpy and runs as a small torch module."""
