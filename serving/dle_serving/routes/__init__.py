"""The HTTP routes: one file for each, the contract that they share, and the router."""
