"""Fits and judges the presence of a bundle: the probability that the object is there at all."""
