"""Training examples varied: images and series."""
