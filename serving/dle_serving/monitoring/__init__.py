"""Monitoring: Prometheus metrics, counts of inputs and predictions, and the quality that feedback shows."""
