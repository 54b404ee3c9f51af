"""From a CAD file to a data set in the BOP format."""
