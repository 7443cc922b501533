"""What the service tells about itself: metrics, and ids by which feedback finds its prediction."""
