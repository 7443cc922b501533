"""Scoring: metrics, calibration, evaluation, and the results of cross-validation."""
