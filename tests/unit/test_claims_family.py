"""The claims about linear features and about merging in stages: verdicts on tables with known answers."""

import itertools
from pathlib import Path

import pandas as pd
import pytest
import yaml

from onebasin import claims
from onebasin.errors import OnebasinError

RULES = Path(__file__).parents[2] / "config" / "claims"
NEAR = (0.98, 1.0, 1.02)  # of the numbers below, what the trials have
METHODS = ("naive", "weight_matching", "ste_mm")

# by shared epochs and method: 1 - cos in the worst layer, commutativity distance, barrier, stitched accuracy
FEATURES = {
    (5, "naive"): (0.002, 0.001, 0.002, 0.97),
    (0, "naive"): (0.12, 5.0, 0.8, 0.12),
    (0, "weight_matching"): (0.013, 0.1, 0.006, 0.95),
    (0, "ste_mm"): (0.006, 0.08, 0.003, 0.96),
}


def study(**changed):
    """Tables of a study with the column `spawn`, in which three models have three pairs a trial."""
    rows = {name: [] for name in ("llfc", "llfc_conditions", "stitching", "pairwise", "merged")}
    for (shared, method), (trial, factor) in itertools.product(itertools.product((0, 5), METHODS), enumerate(NEAR)):
        numbers = FEATURES.get((shared, method), FEATURES[5, "naive"])
        numbers = changed.get(f"{method}_{shared}", numbers)
        apart, distance, barrier = (factor * number for number in numbers[:3])
        stitched = numbers[3] + (factor - 1) / 10
        run = {
            "experiment": "own",
            "spawn": "spawned" if shared else "independent",
            "method": method,
            "count": 3,
            "trial": trial,
            "split": "test",
        }
        for a, b in ((0, 1), (0, 2), (1, 2)):
            pair = {**run, "model_a": a, "model_b": b}
            excess = {"barrier_loss": barrier, "barrier_accuracy": 0.0}
            rows["pairwise"].append({**pair, **excess})
            for layer, share in (("1", 0.0), ("3", 1.0)):
                for weight in (0.25, 0.5):
                    known = {"layer": layer, "weight_b": weight, "baseline": 0.5, "coefficient": 1.0}
                    far = share * apart if weight == 0.5 else 9.0  # other weights decide nothing
                    rows["llfc"].append({**pair, **known, "dissimilarity": far})
                rows["llfc_conditions"].append(
                    {**pair, "layer": layer, "commutativity": share * distance, "additivity": 0.1}
                )
                accuracy = 1 - share * (1 - stitched)
                rows["stitching"].append({**pair, "layer": layer, "loss": 0.1, "accuracy": accuracy})
        average = {"model_a": 0, "model_b": "merged", "layer": "3", "weight_b": 0.5}
        rows["llfc"].append({**run, **average, "dissimilarity": 9.0, "baseline": 0.5, "coefficient": 1.0})
        losses = {"loss": 0.1, "accuracy": 1.0, "parents_loss": 0.1, "parents_accuracy": 1.0}
        losses |= {"barrier_loss": 0.0, "barrier_accuracy": 0.0, "ensemble_loss": 0.1, "ensemble_accuracy": 1.0}
        rows["merged"].append({**run, **losses})
    return {"own": (["spawn"], {name: pd.DataFrame(found) for name, found in rows.items()})}


def verdicts_of_features(**changed):
    found = claims.evaluate(claims.load(RULES / "llfc.yaml"), {}, [], study(**changed))
    return found.set_index("claim")["verdict"].to_dict()


def test_a_study_that_shows_what_the_paper_found_reproduces_all():
    assert verdicts_of_features() == {f"L{number}": "reproduced" for number in range(1, 7)}


@pytest.mark.parametrize(
    ("claim", "changed"),
    [
        ("L1", {"naive_5": (0.01, 0.001, 0.002, 0.97)}),
        ("L1", {"naive_5": (0.002, 0.001, 0.02, 0.97)}),
        ("L2", {"naive_0": (0.01, 5.0, 0.8, 0.12)}),
        ("L2", {"naive_0": (0.12, 5.0, 0.3, 0.12)}),
        ("L3", {"weight_matching_0": (0.08, 0.1, 0.006, 0.95)}),
        ("L4", {"naive_5": (0.002, 0.001, 0.002, 0.8)}),
        ("L4", {"naive_0": (0.12, 5.0, 0.8, 0.7)}),
        ("L5", {"weight_matching_0": (0.013, 4.0, 0.006, 0.95)}),
        ("L6", {"ste_mm_0": (0.03, 0.08, 0.003, 0.96)}),
    ],
)
def test_what_is_not_so_contradicts_its_claim(claim, changed):
    assert verdicts_of_features(**changed)[claim] == "contradicted"


def test_experiments_that_are_no_such_study_are_told_what_is_missing():
    _, tables = study()["own"]
    plain = {name: frame[frame["spawn"] == "independent"].drop(columns="spawn") for name, frame in tables.items()}
    found = claims.evaluate(claims.load(RULES / "llfc.yaml"), {}, [], {"own": ([], plain)})
    assert set(found["verdict"]) == {"inconclusive"}
    assert found["detail"].str.contains("missing: no rows in table .* where spawn is").all()


def test_a_study_is_judged_by_the_claims_about_what_it_varies_alone():
    varied, tables = study()["own"]
    other = {name: frame.rename(columns={"spawn": "width"}) for name, frame in tables.items()}
    found = claims.evaluate(
        claims.load(RULES / "llfc.yaml"), {}, [], {"other": (["width"], other), "own": (varied, tables)}
    )
    assert set(found["experiment"]) == {"own"}
    assert set(found["verdict"]) == {"reproduced"}


@pytest.mark.parametrize(("times", "verdict"), [(1, "reproduced"), (0.1, "reproduced"), (0.001, "contradicted")])
def test_an_effect_is_held_against_that_at_another_place_of_a_study(tmp_path, times, verdict):
    own = {
        **{"paper": "own", "claim": "S1", "statement": "x", "effect": "pair_barrier_nats", "methods": ["naive"]},
        **{"split": "test", "side": "below", "threshold": 0, "times": times},
        **{"where": {"spawn": "spawned"}, "versus": {"spawn": "independent"}},
    }
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"confidence": 0.95, "tolerance": 0.15, "claims": [own]}))
    found = claims.evaluate(claims.load(path), {}, [], study()).iloc[0]
    assert found["verdict"] == verdict
    assert found["effect"] == pytest.approx(0.002 - times * 0.8)
    assert "where spawn is spawned less" in found["detail"]
    assert "where spawn is independent, mean barrier (nats): naive 0.8" in found["detail"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"versus": {"spawn": "x"}}, "versus without where"),
        ({"where": ["spawn"]}, "write columns of a study and values"),
        ({"where": {"spawn": "x"}, "times": "half"}, "times is 'half'; write a number"),
        (
            {
                "also": [
                    {
                        "where": {},
                        "effect": "pair_barrier_nats",
                        "methods": ["naive"],
                        "split": "test",
                        "side": "below",
                        "threshold": 0,
                    }
                ]
            },
            "in all or in none",
        ),
    ],
)
def test_places_that_are_none_are_refused(tmp_path, changed, says):
    own = {
        **{"paper": "own", "claim": "S1", "statement": "x", "effect": "pair_barrier_nats", "methods": ["naive"]},
        **{"split": "test", "side": "below", "threshold": 0},
    }
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"confidence": 0.95, "tolerance": 0.15, "claims": [own | changed]}))
    with pytest.raises(OnebasinError, match=says):
        claims.load(path)


# Merging in stages

STAGES = {2: (0.97, 0.30, 18.0, 120.0, 0.86), 8: (0.94, 0.50, 13.0, 77.0, 0.90)}  # accuracy, ..., norms, under PGD


def stages(loss=0.2, other_loss=0.3, **changed):
    """Tables of two and eight models: accuracy of the merged model, of it under PGD, its norms, of a rescaled one."""
    rows = {name: [] for name in ("merged", "robustness", "norms")}
    for (count, numbers), (trial, factor) in itertools.product(STAGES.items(), enumerate(NEAR)):
        accuracy, rescaled, frobenius, spectral, attacked = changed.get(f"at_{count}", numbers)
        for method, own in (("hierarchical", loss), ("weight_matching", other_loss)):
            run = {"experiment": "own", "method": method, "count": count, "trial": trial, "split": "test"}
            losses = {"loss": factor * own, "accuracy": accuracy, "parents_loss": 0.1, "parents_accuracy": 0.98}
            losses |= {"barrier_loss": 0.0, "barrier_accuracy": factor * (0.98 - accuracy)}
            rows["merged"].append({**run, **losses, "ensemble_loss": 0.1, "ensemble_accuracy": 1.0})
            for model, found in (("merged", attacked), ("rescaled", rescaled), ("3", 0.1)):
                for attack, strength in (("clean", 0.0), ("pgd", 0.05), ("pgd", 0.1)):
                    here = factor * found if strength == 0.05 else 0.5
                    case = {**run, "model": model, "attack": attack, "strength": strength}
                    rows["robustness"].append({**case, "loss": 1.0, "accuracy": here})
                sizes = (frobenius, spectral) if model == "merged" else (99.0, 99.0)
                named = {"frobenius": factor * sizes[0], "spectral_product": factor * sizes[1], "mean_logit": 1.0}
                rows["norms"].append({**run, "model": model, **named})
    return {name: pd.DataFrame(found) for name, found in rows.items()}


def verdicts_of_stages(**changed):
    found = claims.evaluate(claims.load(RULES / "hierarchical.yaml"), stages(**changed))
    return found.set_index("claim")["verdict"].to_dict()


def test_tables_that_show_what_is_claimed_of_stages_reproduce_all():
    assert verdicts_of_stages() == {f"H{number}": "reproduced" for number in range(1, 6)}


@pytest.mark.parametrize(
    ("claim", "changed"),
    [
        ("H1", {"other_loss": 0.1}),
        ("H2", {"at_8": (0.94, 0.5, 13.0, 77.0, 0.7)}),
        ("H3", {"at_8": (0.94, 0.5, 19.0, 77.0, 0.9)}),
        ("H3", {"at_8": (0.94, 0.5, 13.0, 150.0, 0.9)}),
        ("H4", {"at_8": (0.99, 0.5, 13.0, 77.0, 0.9)}),
        ("H5", {"at_8": (0.94, 0.95, 13.0, 77.0, 0.9)}),
    ],
)
def test_what_is_not_so_of_stages_contradicts_its_claim(claim, changed):
    assert verdicts_of_stages(**changed)[claim] == "contradicted"


# Networks without symmetries

BARRIERS = {  # by asymmetry: of models as they are, matched by weights, aligned by STE-MM
    "standard": (0.6, 0.08, 0.02),
    "w": (0.01, 0.01, 0.01),
    "sigma": (0.4, 0.4, 0.4),
    "kappa 0": (0.65, 0.1, 0.05),
    "own masks": (1.2, 0.2, 0.1),
}
RISES = {"standard": 0.3, "w": 0.05}
POSTERIORS = {"standard": (0.9, 0.5), "w": (0.4, 0.3)}  # the last epoch's loss: training and test data


def asymmetric(barriers=None, rises=None, posteriors=None):
    """Tables of a study with the column `asymmetry`."""
    rows = {name: [] for name in ("pairwise", "merged", "monotonic", "variational")}
    for (kind, sizes), (trial, factor) in itertools.product((BARRIERS | (barriers or {})).items(), enumerate(NEAR)):
        place = {"experiment": "own", "asymmetry": kind, "trial": trial}
        for method, size in zip(METHODS, sizes, strict=True):
            run = {**place, "method": method, "count": 3, "split": "test"}
            for a, b in ((0, 1), (0, 2), (1, 2)):
                excess = {"barrier_loss": factor * size, "barrier_accuracy": 0.0}
                rows["pairwise"].append({**run, "model_a": a, "model_b": b, **excess})
            losses = {"loss": 0.1 + factor * size, "accuracy": 1.0, "parents_loss": 0.1, "parents_accuracy": 1.0}
            losses |= {"barrier_loss": 0.0, "barrier_accuracy": 0.0, "ensemble_loss": 0.1, "ensemble_accuracy": 1.0}
            rows["merged"].append({**run, **losses})
        rise = (RISES | (rises or {})).get(kind, 0.2)
        rows["monotonic"] += [
            {**place, "split": "test", "model": model, "rise": factor * rise, "convex": 0.9} for model in (0, 1, 2)
        ]
        ends = (POSTERIORS | (posteriors or {})).get(kind, (0.6, 0.6))
        for epoch, (split, end) in itertools.product((1, 2), zip(("train", "test"), ends, strict=True)):
            loss = {"loss": factor * end * (3 - epoch), "accuracy": 0.9, "divergence": 0.1}
            rows["variational"].append({**place, "split": split, "epoch": epoch, **loss})
    return {"own": (["asymmetry"], {name: pd.DataFrame(found) for name, found in rows.items()})}


def verdicts_of_asymmetry(**changed):
    found = claims.evaluate(claims.load(RULES / "asymmetric.yaml"), {}, [], asymmetric(**changed))
    return found.set_index("claim")["verdict"].to_dict()


def test_a_study_that_shows_what_is_claimed_of_asymmetry_reproduces_all():
    assert verdicts_of_asymmetry() == {f"A{number}": "reproduced" for number in range(1, 9)}


@pytest.mark.parametrize(
    ("claim", "changed"),
    [
        ("A1", {"barriers": {"w": (0.1, 0.1, 0.1)}}),
        ("A2", {"barriers": {"w": (0.1, 0.1, 0.1)}}),
        ("A3", {"barriers": {"sigma": (0.7, 0.7, 0.7)}}),
        ("A4", {"barriers": {"kappa 0": (0.2, 0.1, 0.1)}}),
        ("A5", {"barriers": {"own masks": (0.2, 0.1, 0.1)}}),
        ("A6", {"rises": {"w": 0.4}}),
        ("A7", {"posteriors": {"w": (0.95, 0.3)}}),
        ("A7", {"posteriors": {"w": (0.4, 0.6)}}),
        ("A8", {"barriers": {"w": (0.1, 0.1, 0.1)}}),
    ],
)
def test_what_is_not_so_of_asymmetry_contradicts_its_claim(claim, changed):
    assert verdicts_of_asymmetry(**changed)[claim] == "contradicted"


def test_a_claim_about_another_method_elsewhere_holds_against_that_one():
    found = claims.evaluate(claims.load(RULES / "asymmetric.yaml"), {}, [], asymmetric()).set_index("claim")
    assert found["effect"]["A2"] == pytest.approx(0.01 - 0.08)
    assert "less that where asymmetry is standard and method is weight_matching" in found["detail"]["A2"]
    assert found["effect"]["A7"] == pytest.approx(1.5 * (0.4 - 0.9))  # the mean over two epochs
    assert "1 models, 3 trials" in found["detail"]["A7"]
