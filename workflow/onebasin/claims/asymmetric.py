"""Effects of the claims about networks without symmetries (Lim et al., NeurIPS 2024), beside those of merging."""

import pandas as pd

from onebasin.claims.effects import Condition, Effect, Tables, where


def _path_rise(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """How far the loss rises from a model's beginning to its end, at most, in nats: the mean over a trial's models."""
    rows = where(tables["monotonic"], split=condition.options["split"])
    return rows.groupby("trial")["rise"].agg(lambda rises: rises.mean(skipna=False))


def _posterior_loss(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """The loss of a posterior's predictions, in nats: after the last epoch, or the mean over all epochs."""
    rows = where(tables["variational"], split=condition.options["split"])
    if condition.options["epochs"] == "last":
        rows = where(rows, epoch=rows["epoch"].max())
    return rows.groupby("trial")["loss"].agg(lambda losses: losses.mean(skipna=False))


def _rises(tables: Tables, condition: Condition, count: int) -> str:
    rises = where(tables["monotonic"], split=condition.options["split"])["rise"]
    never = int((rises == 0).sum())
    return f"mean rise {rises.mean(skipna=False):.3g} nats, none at all in {never} of {len(rises)} models"


def _losses(tables: Tables, condition: Condition, count: int) -> str:
    rows = where(tables["variational"], split=condition.options["split"])
    last = where(rows, epoch=rows["epoch"].max())
    return f"after the last epoch loss {last['loss'].mean():.3g} nats, accuracy {last['accuracy'].mean():.3g}"


PATH_RISE = Effect(("monotonic",), ("split",), _path_rise, _rises, of_methods=False)
POSTERIOR_LOSS = Effect(("variational",), ("split", "epochs"), _posterior_loss, _losses, of_methods=False)
