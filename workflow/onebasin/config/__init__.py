"""What a configuration says and means. Nothing here imports torch: the workflow's graph is built from it."""
