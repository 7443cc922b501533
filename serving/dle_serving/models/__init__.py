"""The models of a server: found, verified, opened, and run in batches."""
