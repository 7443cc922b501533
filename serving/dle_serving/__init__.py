"""The prediction service: a bundle behind HTTP, without PyTorch."""
