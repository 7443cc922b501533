"""Exports a run as a bundle: graph, proof of parity, model card and digests."""
