"""Columns of a table: their kinds and formats, which of them are inputs, and their statistics."""
