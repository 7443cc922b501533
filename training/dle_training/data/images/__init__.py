"""Images of a source: where they are, how large they become, and how they reach a batch."""
