"""Where the time goes, and what the same distribution costs by other means: `./run bench`."""
