"""Fitting a network: the loop, its batches, its state, and everything that watches it."""
