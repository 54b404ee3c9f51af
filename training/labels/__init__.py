"""Labels of photographs of an object at rest, from what a model makes of all of them together."""
