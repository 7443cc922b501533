"""Networks: one encoder per group of inputs, concatenated, then a head."""
