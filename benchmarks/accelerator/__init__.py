"""All that needs a GPU, in one command with an end: see `__main__`."""
