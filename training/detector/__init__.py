"""Training of detectors: which cell answers for which object, losses, published weights."""
