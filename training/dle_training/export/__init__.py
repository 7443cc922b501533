"""From a run to a bundle: graph, proof of parity, model card, digests."""
