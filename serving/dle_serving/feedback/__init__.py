"""Feedback on earlier predictions: signed ids, verification, and the store that keeps it."""
