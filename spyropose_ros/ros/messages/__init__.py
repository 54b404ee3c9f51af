"""From distributions to messages."""
