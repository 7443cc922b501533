"""Hyperparameter search: studies, their trials, the selection of a model, and the comparison of runs."""
