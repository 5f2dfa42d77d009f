"""Loss and accuracy of a merged model, of its parents and of their ensemble.

Losses are mean cross-entropies in nats (or what else the data's objective says), accuracies fractions of one. A merged
model's barrier is its loss minus the mean loss of its parents (Ito et al. 2025); that of accuracy is the other way
round: a loss of accuracy is positive.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from onebasin.data import Data
from onebasin.models.objective import NAN, objective_named
from onebasin.models.running import SPLITS, measure, predictions
from onebasin.models.stack import Models
from onebasin.parameters import Parameters


def predict(models: Models, data: Data) -> dict[str, list[Any]]:
    """What the objective makes of the outputs of every model, by split: log-probabilities `[n, classes]`."""
    return {name: [predictions(models.network, own, data.split(name)) for own in models] for name in SPLITS}


def evaluate_merged(
    parents: Models, merged: Parameters, data: Data, predicted: Mapping[str, Sequence[Any]] | None = None
) -> pd.DataFrame:
    """Per split: loss and accuracy of the merged model, of its parents (mean), of their ensemble, and the barriers.

    The ensemble averages the parents' probabilities. What the objective does not say, such as an accuracy, is NaN.

    Args:
        predicted: what `predict` says of the parents, or of models of which they are the first, if it is known.
    """
    known = predict(parents, data) if predicted is None else predicted
    objective = objective_named(data.objective)
    rows = []
    for name in SPLITS:
        split = data.split(name)
        loss, accuracy = measure(parents.network, merged, split)
        members = [*known[name][: len(parents)]]
        scores = [objective.score(member, split.targets) for member in members]
        parents_loss, parents_accuracy = (sum(values) / len(parents) for values in zip(*scores, strict=True))
        together = objective.ensemble(members)
        ensemble_loss, ensemble_accuracy = (NAN, NAN) if together is None else objective.score(together, split.targets)
        rows.append(
            {
                "split": name,
                "loss": loss,
                "accuracy": accuracy,
                "parents_loss": parents_loss,
                "parents_accuracy": parents_accuracy,
                "barrier_loss": loss - parents_loss,
                "barrier_accuracy": parents_accuracy - accuracy,
                "ensemble_loss": ensemble_loss,
                "ensemble_accuracy": ensemble_accuracy,
            }
        )
    return pd.DataFrame(rows)
