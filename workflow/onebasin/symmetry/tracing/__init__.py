"""Tracing: which axes of a network's tensors move together, read off its exported graph."""
