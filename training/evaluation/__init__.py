"""Evaluation: protocol, metrics, records and reports."""
