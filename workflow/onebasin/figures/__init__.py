"""Figures: one function a figure, from tables of one experiment to a Matplotlib figure; `style.save` writes it.

Nothing is drawn, and neither Matplotlib nor pandas is imported, before a figure is asked for. A user's own figure is
named `package.module:function` and has the signature of the built-in ones: `(tables) -> Figure`.
"""

FIGURES = {
    "merged": "onebasin.figures.merged:merged",
    "pairwise": "onebasin.figures.pairwise:pairwise",
    "pairwise_matrix": "onebasin.figures.pairwise_matrix:pairwise_matrix",
    "interpolation": "onebasin.figures.interpolation:interpolation",
    "sharpness": "onebasin.figures.sharpness:sharpness",
    "landscape": "onebasin.figures.landscape:landscape",
}

# the tables that each figure reads, by the names of their files
FIGURE_TABLES = {
    "merged": ("merged",),
    "pairwise": ("pairwise",),
    "pairwise_matrix": ("pairwise",),
    "interpolation": ("interpolation",),
    "sharpness": ("sharpness", "top_eigenvalue"),
    "landscape": ("landscape",),
}
