"""Whether the distributions are right: coverage, fusion, the temporal filter, bags."""
