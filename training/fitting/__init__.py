"""Training runs: objective, module, augmentation, checkpoints, progress."""
