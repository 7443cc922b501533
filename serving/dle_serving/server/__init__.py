"""The processes of a server: start, supervise, replace and stop them."""
