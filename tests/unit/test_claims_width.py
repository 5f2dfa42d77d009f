"""The claims about width instead of permutations: verdicts on tables with known answers."""

import itertools
from pathlib import Path

import pandas as pd
import pytest

from onebasin import claims
from onebasin.tables.record import table

RULES = Path(__file__).parents[2] / "config" / "claims" / "width.yaml"
NEAR = (0.98, 1.0, 1.02)  # of the numbers below, what the trials have

# by width, method, count: barriers of accuracy, loss, calibrated loss; agreement; calibrated loss with others random
FOUND = {
    (16, "naive", 2): (0.2, 0.6, 0.5, 0.7, 1.2),
    (16, "naive", 5): (0.4, 0.9, 0.8, 0.5, 1.2),
    (1024, "naive", 2): (0.01, 0.3, 0.04, 0.98, 0.5),
    (1024, "naive", 5): (0.02, 0.9, 0.1, 0.97, 0.9),
    (1024, "weight_matching", 2): (0.0, 0.1, 0.0, 0.99, 0.5),
    (0.25, "naive", 2): (0.1, 0.2, 0.05, 0.9, 0.5),
    (0.25, "weight_matching", 2): (0.2, 0.4, 0.15, 0.9, 0.5),
}
PARENTS = 0.1
FEATURES = {"residual": 0.4, "plain_residual": 1.2, "random_residual": 1.4, "uneven": 0.1, "plain_uneven": 0.2}


def study(changed=None, features=None):
    """Tables of a study with the column `width`; what is not given is as at width 1024."""
    rows = {"calibration": [], "merged": [], "lewc": []}
    kinds = itertools.product((16, 1024, 0.25), ("naive", "weight_matching"), (2, 5), enumerate(NEAR))
    for width, method, count, (trial, factor) in kinds:
        place = (width, method, count)
        numbers = (changed or {}).get(place, FOUND.get(place, FOUND[1024, "weight_matching", 2]))
        accuracy, raw, calibrated, agreement, random = numbers
        run = {"experiment": "own", "width": width, "method": method, "count": count, "trial": trial, "split": "test"}
        barriers = {"barrier_accuracy": factor * accuracy, "barrier_loss": factor * raw}
        calibration = {
            "barrier_calibrated": factor * calibrated,
            "calibrated_loss": PARENTS + factor * calibrated,
            "agreement": agreement * (1 + (factor - 1) / 10),
            "random_calibrated_loss": factor * random,
        }
        rows["calibration"].append({**run, **barriers, **calibration})
        rows["merged"].append({**run, **barriers})
        own = FEATURES | (features or {})
        for layer, (model, weight) in itertools.product("13", (("merged", 0.5), ("1", 0.5), ("1", 0.75))):
            at_last = factor * (layer == "3")
            found = {name: at_last * own[name] for name in ("residual", "plain_residual", "random_residual")}
            if model != "merged":  # decides nothing
                found = dict.fromkeys(found, 9.0)
            angles = (own["uneven"], own["plain_uneven"]) if weight == 0.75 else (0.5, 0.1)  # nor do even shares
            found |= {"dissimilarity": at_last * angles[0], "plain_dissimilarity": angles[1] * (layer == "3")}
            rows["lewc"].append({**run, **found, "layer": layer, "model_a": "0", "model_b": model, "weight_b": weight})
    return {name: complete(name, pd.DataFrame(found)) for name, found in rows.items()}


def complete(name, frame):
    """The frame with 0 in the columns that no claim is about."""
    missing = [column for column in table(name, ["width"]).columns if column not in frame]
    return frame.assign(**dict.fromkeys(missing, 0.0))


def verdicts(**made):
    found = claims.evaluate(claims.load(RULES), {}, [], {"own": (["width"], study(**made))})
    return found.set_index("claim")["verdict"].to_dict()


def test_a_study_that_shows_what_is_claimed_of_width_reproduces_all():
    assert verdicts() == {f"B{number}": "reproduced" for number in range(1, 11)}


@pytest.mark.parametrize(
    ("claim", "made"),
    [
        ("B1", {"changed": {(1024, "naive", 2): (0.05, 0.3, 0.04, 0.98, 0.5)}}),
        ("B2", {"changed": {(1024, "naive", 2): (0.01, 3.0, 0.6, 0.98, 0.9)}}),
        ("B3", {"changed": {(1024, "naive", 2): (0.01, 0.3, 0.1, 0.98, 0.5)}}),
        ("B4", {"changed": {(1024, "naive", 2): (0.01, 0.3, 0.04, 0.93, 0.5)}}),
        ("B5", {"changed": {(1024, "weight_matching", 2): (0.01, 0.3, 0.06, 0.98, 0.5)}}),
        ("B6", {"changed": {(0.25, "weight_matching", 2): (0.01, 0.3, 0.03, 0.98, 0.5)}}),
        ("B7", {"features": {"plain_residual": 0.3}}),
        ("B7", {"features": {"random_residual": 0.3}}),
        ("B8", {"features": {"plain_uneven": 0.05}}),
        ("B9", {"changed": {(1024, "naive", 2): (0.01, 0.3, 0.04, 0.98, 0.1)}}),
        ("B10", {"changed": {(1024, "naive", 5): (0.1, 0.9, 0.1, 0.97, 0.9)}}),
        ("B10", {"changed": {(1024, "naive", 5): (0.02, 0.9, 0.1, 0.9, 0.9)}}),
    ],
)
def test_what_is_not_so_of_width_contradicts_its_claim(claim, made):
    found = verdicts(**made)
    assert found[claim] == "contradicted"
    assert [name for name, verdict in found.items() if verdict != "reproduced"] == [claim]


def test_a_loss_barrier_that_is_none_has_no_share_to_take_away():
    assert verdicts(changed={(1024, "naive", 2): (0.01, -0.01, -0.02, 0.98, 0.5)})["B3"] == "inconclusive"


def test_narrow_networks_alone_judge_nothing():
    narrow = {name: frame[frame["width"] == 16] for name, frame in study().items()}
    found = claims.evaluate(claims.load(RULES), {}, [], {"own": (["width"], narrow)})
    assert set(found["verdict"]) == {"inconclusive"}
    assert found["detail"].str.contains("missing: no rows in table .* where width is").all()
