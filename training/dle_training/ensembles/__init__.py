"""Ensembles: many small networks that are trained at once, and the choice among them."""
