"""Training: one model a seed."""
