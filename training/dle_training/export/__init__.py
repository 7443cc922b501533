"""From a run to a bundle: graph, parity, reference, model card, digests."""
