"""The pipeline over a recorded bag, without a graph."""
