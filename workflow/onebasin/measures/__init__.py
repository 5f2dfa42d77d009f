"""Analyses of the artifacts: what the merged models' surroundings look like, and why matching works."""
