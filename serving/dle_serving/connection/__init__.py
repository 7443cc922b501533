"""The HTTP connection: the lane for plain predictions, limits, deadlines and admission."""
