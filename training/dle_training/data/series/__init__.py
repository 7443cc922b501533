"""Series of a source: their shapes, the windows of a forecast, and its covariates."""
