"""The heads, the search and the training step, fast: on CPUs and GPUs, each with its plain twin."""
