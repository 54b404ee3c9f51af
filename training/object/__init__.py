"""From a CAD file to a model with a detector, and a page about both: `./run object`."""
