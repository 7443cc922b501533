"""Drift: the monitored features, the reference bins, counts per bin, and the statistics and verdicts."""
