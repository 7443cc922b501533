"""Fitting a network: the training loop, its batches, its checkpoints and its listeners."""
