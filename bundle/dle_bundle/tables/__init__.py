"""Reads source files as Arrow tables, and converts Arrow columns into groups."""
