"""Loss and accuracy of a merged model, of its parents and of their ensemble.

Losses are mean cross-entropies in nats, accuracies fractions of one. A merged model's barrier is its loss minus the
mean loss of its parents (Ito et al. 2025); that of accuracy is the other way round: a loss of accuracy is positive.
"""

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor

from onebasin.data import Data
from onebasin.models.objective import SPLITS, log_probabilities, measure, score
from onebasin.models.stack import Models
from onebasin.parameters import Parameters


def predict(models: Models, data: Data) -> dict[str, Tensor]:
    """Log-probabilities `[N, n, classes]` of every model, by split."""
    return {
        name: torch.stack([log_probabilities(models.network, p, data.split(name)) for p in models]) for name in SPLITS
    }


def evaluate_merged(
    parents: Models, merged: Parameters, data: Data, predictions: Mapping[str, Tensor] | None = None
) -> pd.DataFrame:
    """Per split: loss and accuracy of the merged model, of its parents (mean), of their ensemble, and the barriers.

    The ensemble averages the parents' probabilities.

    Args:
        predictions: what `predict` says of the parents, or of models of which they are the first, if it is known.
    """
    known = predict(parents, data) if predictions is None else predictions
    rows = []
    for name in SPLITS:
        split = data.split(name)
        loss, accuracy = measure(parents.network, merged, split)
        members = known[name][: len(parents)]
        scores = [score(member, split.targets) for member in members]
        parents_loss, parents_accuracy = (sum(values) / len(parents) for values in zip(*scores, strict=True))
        ensemble_loss, ensemble_accuracy = score(members.double().exp().mean(dim=0).log(), split.targets)
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
