"""Augmentation: random variations of training images and series."""
