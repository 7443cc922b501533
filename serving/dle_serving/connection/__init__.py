"""The HTTP connection: limits on what a request may send."""
