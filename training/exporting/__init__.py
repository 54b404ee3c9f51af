"""Parts of a network as files for other runtimes; the command is `training.export`."""
