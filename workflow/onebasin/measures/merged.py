"""Evaluation: loss and accuracy of models, their ensemble, and of the lines between them.

Losses are mean cross-entropies in nats, accuracies fractions of one. A merged model's barrier is its loss minus the
mean loss of its parents; that of a pair is the largest excess of the loss over the straight line between the two ends
(Frankle et al. 2020; Ito et al. 2025). Barriers of accuracy are the other way round: a loss of accuracy is positive.
"""

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from onebasin.data import Data
from onebasin.models.objective import SPLITS, logits, measure, score
from onebasin.models.stack import Models
from onebasin.parameters import Parameters


def predict(models: Models, data: Data) -> dict[str, Tensor]:
    """Log-probabilities `[N, n, classes]` of every model, by split."""
    return {
        name: torch.stack([F.log_softmax(logits(models.network, p, data.split(name)), dim=1) for p in models])
        for name in SPLITS
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
