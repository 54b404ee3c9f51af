"""How the running node behaves: latency, start-up, messages, the soak."""
