"""Drift: what is watched, the reference it is compared with, counts, statistics and verdicts."""
