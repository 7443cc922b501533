"""Rows of a source: samples of them, copies among them, and rows that are no examples."""
