"""The nodes: subscriptions, life cycle, parameters, worker, diagnostics."""
