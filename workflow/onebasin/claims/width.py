"""Effects of the claims about width instead of permutations (Ito et al., arXiv 2510.08023, 2025)."""

import numpy as np
import pandas as pd

from onebasin.claims.effects import Condition, Effect, Measure, Tables, by_trial, log_ratio, of_every_method, where


def _rows(tables: Tables, table: str, condition: Condition, method: str, count: int) -> pd.DataFrame:
    return where(tables[table], method=method, count=count, split=condition.options["split"])


def _calibration(column: str) -> Measure:
    """A column of the table `calibration`."""

    def measure(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
        return by_trial(_rows(tables, "calibration", condition, method, count), column)

    return measure


_barrier, _calibrated_barrier, _loss, _random_loss, _agreement = map(
    _calibration,
    ("barrier_loss", "barrier_calibrated", "calibrated_loss", "random_calibrated_loss", "agreement"),
)


def _calibrated_share(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """The calibrated loss barrier over the loss barrier; NaN where that is none."""
    raw, calibrated = (measure(tables, condition, method, count) for measure in (_barrier, _calibrated_barrier))
    return calibrated / raw.where(raw > 0)


def _calibrated_difference(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """Calibrated loss of the merged model less that by the other method, in nats; that of their barriers, too."""
    return _loss(tables, condition, method, count) - _loss(tables, condition, condition.options["against"], count)


def _random_difference(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """Calibrated loss less that of the average in which all models but the first are random directions, in nats."""
    return _loss(tables, condition, method, count) - _random_loss(tables, condition, method, count)


def _worst_residual(tables: Tables, condition: Condition, method: str, count: int, column: str) -> pd.Series:
    """A residual of the average's features in the layer where it is largest."""
    rows = _rows(tables, "lewc", condition, method, count)
    average = rows[rows["model_b"].astype(str) == "merged"]
    found: pd.Series = average.groupby("trial")[column].agg(lambda layers: layers.max(skipna=False))
    return found


def _residual(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """That of exponentially weighted features."""
    return _worst_residual(tables, condition, method, count, "residual")


def _residual_change(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """Logarithm of that over the residual of a control, `plain` or `random`."""
    control = f"{condition.options['control']}_residual"
    return log_ratio(
        _residual(tables, condition, method, count), _worst_residual(tables, condition, method, count, control)
    )


def _direction_change(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
    """Logarithm of 1 - cos to the exponentially weighted features over that to the plainly weighted ones: means over
    the layers, pairs and shares of interpolated models whose shares are uneven."""
    rows = _rows(tables, "lewc", condition, method, count)
    uneven = rows[(rows["model_b"].astype(str) != "merged") & ~np.isclose(rows["weight_b"], 0.5)]
    own, plain = (
        uneven.groupby("trial")[column].agg(lambda values: values.mean(skipna=False))
        for column in ("dissimilarity", "plain_dissimilarity")
    )
    return log_ratio(own, plain)


def _of_calibration(what: str, measure: Measure, *options: str) -> Effect:
    return Effect(("calibration",), ("split", *options), measure, of_every_method("calibration", what, measure))


CALIBRATED_BARRIER = _of_calibration("calibrated loss barrier (nats)", _calibrated_barrier)
CALIBRATED_SHARE = _of_calibration("calibrated loss barrier over the loss barrier", _calibrated_share)
CALIBRATED_DIFFERENCE = Effect(
    ("calibration",),
    ("split", "against"),
    _calibrated_difference,
    of_every_method("calibration", "calibrated loss (nats)", _loss),
)
RANDOM_DIFFERENCE = _of_calibration("calibrated loss less that with random others (nats)", _random_difference)
ENSEMBLE_AGREEMENT = _of_calibration("agreement with the ensemble", _agreement)
RESIDUAL_CHANGE = Effect(
    ("lewc",),
    ("split", "control"),
    _residual_change,
    of_every_method("lewc", "largest residual of a layer", _residual),
)
DIRECTION_CHANGE = Effect(
    ("lewc",),
    ("split",),
    _direction_change,
    of_every_method("lewc", "log ratio of 1 - cos, exponential weights to plain ones", _direction_change),
)
