"""Preprocessing of columns into input tensors: each step is fitted in numpy and runs as a small torch module."""
