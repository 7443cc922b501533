"""The configuration of a run, and the one function that makes every open choice."""
