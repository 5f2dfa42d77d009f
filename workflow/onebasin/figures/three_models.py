"""The three-model test: do two models that were matched to a third fit each other?"""

from matplotlib.figure import Figure

from onebasin.figures import style
from onebasin.figures.pairwise import barrier_boxes


@style.paper_style
def three_models(tables: style.Tables) -> Figure:
    """Loss barriers between models that were each matched to the first one, by method and number of models.

    A point is one pair of one trial; boxes hold the middle half, whiskers reach the smallest and largest barrier.
    """
    table, split = style.on_first_split(style.needed(tables, "three_models"))
    return barrier_boxes(table, f"{split} loss barrier of two models\nmatched to a third (nats)")
