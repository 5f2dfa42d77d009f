"""Measures: what is measured of models and of what methods found, and why matching works. `run` says what one is."""
