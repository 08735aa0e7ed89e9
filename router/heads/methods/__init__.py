"""The methods, one a file, and what only they share. `router.heads` imports the one that a checkpoint names."""
