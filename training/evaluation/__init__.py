"""How an evaluation runs: protocol, metrics, records and reports."""
