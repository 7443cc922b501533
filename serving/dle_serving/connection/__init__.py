"""One HTTP connection: what a request may bring."""
