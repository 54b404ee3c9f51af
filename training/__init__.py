"""Offline work: data sets, training, evaluation. Nothing else of the project imports it."""
