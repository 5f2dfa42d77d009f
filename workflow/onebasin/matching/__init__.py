"""Searches for permutations that bring N models together. Every method is one function

    (models, spec, data, settings, generator) -> Permutations

found by its name in `registry/method.toml`.
"""
