"""The server's processes: starting, supervising, replacing and ending them."""
