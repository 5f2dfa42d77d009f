"""Figures: one function a figure, from tables of one experiment to a Matplotlib figure.

    (tables) -> Figure

found by its name in `registry/figure.toml`, which says which tables it is drawn from.
"""
