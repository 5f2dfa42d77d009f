"""Searches for permutations that bring N models together. Every method is one function

    (models, spec, data, settings, generator) -> Alignment

found by its name in `registry/method.toml`.
"""
