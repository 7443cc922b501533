"""Optimization: objectives, losses, optimizers and learning-rate schedules."""
