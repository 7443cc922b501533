"""Model families and the network that they build: an encoder for each kind of input, then a linear head."""
