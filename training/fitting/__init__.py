"""How a training runs: objective, module, augmentation, checkpoints, progress."""
