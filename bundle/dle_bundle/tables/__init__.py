"""Files and Arrow columns: every kind of source as a table, and tables as the graph's groups."""
