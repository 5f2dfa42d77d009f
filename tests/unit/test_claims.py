"""Claims: every verdict in every direction on tables with known answers, and none where data is missing."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from onebasin import claims
from onebasin.errors import OnebasinError
from onebasin.storage.files import write_frame
from onebasin.tables import collect as tables
from onebasin.tables.record import table

RULES = Path(__file__).parents[2] / "config" / "claims" / "ste_mm.yaml"
COUNTS = (2, 3)
PARENTS_LOSS = 0.2
METHODS = ("ste", "weight_matching", "ste_mm")


def _rules() -> claims.Rules:
    """The rules about merging many models; `test_claims_alignment` has the others."""
    rules = claims.load(RULES)
    return replace(rules, claims=tuple(claim for claim in rules.claims if claim.paper == "ste_mm"))


def _table(name: str, rows: list[list[Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(table(name).columns))


def _merged(excess: dict[str, list[float]]) -> pd.DataFrame:
    """Excess loss of each method by trial at three models; a quarter of it at two, and none on the training split."""
    rows = []
    for method, values in excess.items():
        for trial, value in enumerate(values):
            for count, split in itertools.product(COUNTS, ("train", "test")):
                of_split = value * (1 if count == 3 else 0.25) * (split == "test")
                loss = PARENTS_LOSS * (1 + of_split)
                numbers = [loss, 0.9, PARENTS_LOSS, 0.9, loss - PARENTS_LOSS, 0.0, 0.1, 0.95]
                rows.append(["digits", method, count, trial, split, *numbers])
    return _table("merged", rows)


def _pairwise(relative: dict[str, list[float]]) -> pd.DataFrame:
    """Barriers of three pairs with the given mean in units of the parents' loss; the last has half as much again."""
    rows = []
    for method, values in relative.items():
        for trial, value in enumerate(values):
            for (a, b), factor in {(0, 1): 0.5, (0, 2): 1.0, (1, 2): 1.5}.items():
                rows.append(["digits", method, 3, trial, "test", a, b, PARENTS_LOSS * value * factor, 0.0])
    return tables.check(
        pd.DataFrame(rows, columns=[*table("pairwise").keys, "barrier_loss", "barrier_accuracy"]), "pairwise"
    )


def _sharpness(logarithms: list[float]) -> pd.DataFrame:
    """Merged traces of 100 at two models and 100 exp(value) at three; the scaled trace falls twice as fast."""
    rows = []
    for trial, value in enumerate(logarithms):
        for estimator, times in (("trace", 1), ("scaled_trace", 2)):
            for count in COUNTS:
                trace = 100 * math.exp(times * value * (count == 3))
                rows.append(["digits", "ste_mm", count, trial, "merged", "test", estimator, trace, 1.0, 50])
            rows.append(["digits", "ste_mm", 3, trial, "0", "test", estimator, 1e6, 1.0, 50])
    return _table("sharpness", rows)


def _acceleration(factors: list[float], identical: bool = True) -> pd.DataFrame:
    rows = []
    for trial, factor in enumerate(factors):
        rows.append(["digits", "ste_mm", 3, trial, True, 9, 9, 1000, 1.0, True])
        rows.append(["digits", "ste_mm", 3, trial, False, 9, 9, round(1000 * factor), 1.0, identical])
    return _table("acceleration", rows)


def _everything() -> dict[str, pd.DataFrame]:
    return {
        "merged": _merged(
            {
                "ste": [0.5, 0.6, 0.7],
                "weight_matching": [0.1, 0.2, 0.3],
                "ste_mm": [0.05, 0.06, 0.04],
                "naive": [9.0, 8.0, 9.5],
            }
        ),
        "pairwise": _pairwise({"ste_mm": [0.02, 0.03, 0.01], "ste": [0.4, 0.5, 0.6], "naive": [5.0, 6.0, 7.0]}),
        "sharpness": _sharpness([-0.5, -0.4, -0.6]),
        "acceleration": _acceleration([4.0, 4.1, 3.9]),
    }


def _verdict(claim: str, **changed: pd.DataFrame) -> pd.Series:
    frame = claims.evaluate(_rules(), _everything() | changed)
    assert frame.columns.tolist() == [
        *("paper", "claim", "statement", "experiment", "verdict", "effect", "low", "high", "detail")
    ]
    return frame.set_index("claim").loc[claim]


def _t_interval(values: list[float], confidence: float) -> tuple[float, float]:
    return stats.t.interval(confidence, len(values) - 1, np.mean(values), stats.sem(values))


def test_all_claims_are_reproduced_by_tables_that_show_them() -> None:
    frame = claims.evaluate(_rules(), _everything())
    assert frame["claim"].tolist() == ["C1", "C2", "C3", "C4", "C4s", "C5"]
    assert frame["verdict"].unique().tolist() == ["reproduced"]


@pytest.mark.parametrize(
    ("claim", "table"),
    [
        ("C1", _merged({"ste": [0.1, 0.11, 0.12], "weight_matching": [0.1, 0.1, 0.11], "ste_mm": [0.1] * 3})),
        ("C2", _merged({method: [0.5, 0.6, 0.7] for method in METHODS})),
        ("C3", _pairwise({"ste_mm": [0.5, 0.6, 0.7]})),
        ("C4", _sharpness([0.5, 0.4, 0.6])),
        ("C5", _acceleration([0.5, 0.6, 0.4])),
    ],
)
def test_a_claim_is_contradicted_where_the_whole_interval_lies_on_the_other_side(claim: str, table) -> None:
    name = {"C1": "merged", "C2": "merged", "C3": "pairwise", "C4": "sharpness", "C5": "acceleration"}[claim]
    assert _verdict(claim, **{name: table})["verdict"] == "contradicted"


@pytest.mark.parametrize(
    ("claim", "table"),
    [
        ("C1", _merged({method: [0.0, 0.1, 0.4] for method in METHODS})),
        ("C2", _merged({method: [0.0, 0.1, 0.4] for method in METHODS})),
        ("C3", _pairwise({"ste_mm": [0.0, 0.1, 0.4]})),
        ("C4", _sharpness([0.5, -0.9, -0.1])),
        ("C5", _acceleration([0.5, 2.0, 1.5])),
    ],
)
def test_a_claim_is_inconclusive_where_the_interval_holds_the_threshold(claim: str, table) -> None:
    name = {"C1": "merged", "C2": "merged", "C3": "pairwise", "C4": "sharpness", "C5": "acceleration"}[claim]
    row = _verdict(claim, **{name: table})
    assert row["verdict"] == "inconclusive"
    assert row["low"] < row["effect"] < row["high"]


@pytest.mark.parametrize(
    ("claim", "values"),
    [
        ("C2", [0.05, 0.06, 0.04]),
        ("C3", [0.02, 0.03, 0.01]),
        ("C4", [-0.5, -0.4, -0.6]),
        ("C5", [-math.log(factor) for factor in (4.0, 4.1, 3.9)]),
    ],
)
def test_the_interval_is_students_t_over_trials(claim: str, values: list[float]) -> None:
    row = _verdict(claim)
    assert row["effect"] == pytest.approx(np.mean(values))
    assert (row["low"], row["high"]) == pytest.approx(_t_interval(values, 0.95))


def test_two_methods_share_the_error_and_the_clearest_one_is_reported() -> None:
    row = _verdict("C1")
    assert (row["low"], row["high"]) == pytest.approx(_t_interval([0.5, 0.6, 0.7], 0.975))
    assert "97.5 % interval: ste 0.6 [" in row["detail"]
    assert "weight_matching 0.2 [" in row["detail"]


def test_bonferroni_takes_back_what_a_single_look_would_have_claimed() -> None:
    values = [0.5, 0.6, 0.7, 0.2]
    assert _t_interval(values, 0.95)[0] > 0.15 > _t_interval(values, 0.975)[0]
    merged = _merged({"ste": values, "weight_matching": [0.0] * 4, "ste_mm": [0.0] * 4})
    assert _verdict("C1", merged=merged)["verdict"] == "inconclusive"


def test_one_method_that_does_not_fail_does_not_contradict_that_methods_can_fail() -> None:
    merged = _merged({"ste": [0.0, 0.1, 0.4], "weight_matching": [0.0] * 3, "ste_mm": [0.0] * 3})
    assert _verdict("C1", merged=merged)["verdict"] == "inconclusive"


def test_failing_needs_three_models() -> None:
    row = _verdict("C1", merged=_everything()["merged"].query("count == 2"))
    assert row["verdict"] == "inconclusive"
    assert "3 or more models, the largest count is 2" in row["detail"]


@pytest.mark.parametrize(
    ("claim", "name", "drop"),
    [
        ("C1", "merged", "method == 'weight_matching'"),
        ("C2", "merged", "method == 'ste_mm'"),
        ("C2", "merged", "method == 'ste_mm' and trial == 1 and count == 3"),
        ("C2", "merged", "method == 'ste_mm' and count == 3"),
        ("C2", "merged", "split == 'test'"),
        ("C2", "merged", "count > 0"),
        ("C3", "pairwise", "method == 'ste_mm'"),
        ("C3", "pairwise", "trial == 1 and model_a == '0' and model_b == '2'"),
        ("C3", "pairwise", "trial == 1"),
        ("C3", "merged", "method == 'ste_mm' and trial == 1"),
        ("C4", "sharpness", "count == 2"),
        ("C4", "sharpness", "model == 'merged'"),
        ("C4", "sharpness", "estimator == 'trace'"),
        ("C4", "sharpness", "trial == 1 and count == 2"),
        ("C5", "acceleration", "not warm_start"),
        ("C5", "acceleration", "trial == 1 and warm_start"),
        ("C5", "acceleration", "method == 'ste_mm'"),
    ],
)
def test_missing_data_is_never_a_verdict(claim: str, name: str, drop: str) -> None:
    row = _verdict(claim, **{name: _everything()[name].query(f"not ({drop})")})
    assert row["verdict"] == "inconclusive"
    assert row[["effect", "low", "high"]].isna().all()
    assert row["detail"].startswith("missing: ")


def test_an_absent_table_makes_its_claim_inconclusive_and_no_other() -> None:
    without = {name: frame for name, frame in _everything().items() if name != "sharpness"}
    frame = claims.evaluate(_rules(), without).set_index("claim")
    others = dict.fromkeys(["C1", "C2", "C3", "C5"], "reproduced")
    assert frame["verdict"].to_dict() == others | {"C4": "inconclusive", "C4s": "inconclusive"}
    assert frame["detail"]["C4"] == "missing: no rows in table sharpness"


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("claim", "name", "column", "row"),
    [
        *(("C1", "merged", "loss", "method == 'ste' and trial == 1 and count == 3 and split == 'test'"),),
        *(("C2", "merged", "loss", "method == 'ste_mm' and trial == 1 and count == 3 and split == 'test'"),),
        *(("C3", "pairwise", "barrier_loss", "method == 'ste_mm' and trial == 1 and model_b == '1'"),),
        *(("C4", "sharpness", "value", "trial == 1 and count == 3 and model == 'merged'"),),
        *(("C5", "acceleration", "row_scans", "trial == 1 and warm_start"),),
    ],
)
def test_a_number_that_is_not_finite_is_never_a_verdict(
    claim: str, name: str, column: str, row: str, value: float
) -> None:
    frame = _everything()[name]
    frame[column] = frame[column].astype(float)
    frame.loc[frame.query(row).index, column] = value
    found = _verdict(claim, **{name: frame})
    assert found["verdict"] == "inconclusive"
    assert "trial 1" in found["detail"]


def test_a_negative_trace_has_no_logarithm_and_so_no_verdict() -> None:
    frame = _everything()["sharpness"]
    frame.loc[frame["trial"] == 1, "value"] *= -1
    assert _verdict("C4", sharpness=frame)["verdict"] == "inconclusive"


def test_one_trial_is_inconclusive_for_every_claim() -> None:
    one = {name: frame.query("trial == 0") for name, frame in _everything().items()}
    frame = claims.evaluate(_rules(), one)
    assert frame["verdict"].unique().tolist() == ["inconclusive"]
    assert frame["detail"].str.contains("a second trial").all()


def test_equal_trials_have_a_degenerate_interval_and_a_verdict() -> None:
    row = _verdict("C4", sharpness=_sharpness([-0.5, -0.5]))
    assert row["verdict"] == "reproduced"
    assert row["low"] == pytest.approx(row["high"])


def test_no_change_at_all_is_neither_side() -> None:
    assert _verdict("C5", acceleration=_acceleration([1.0, 1.0]))["verdict"] == "inconclusive"


def test_one_different_result_contradicts_the_warm_start_however_fast() -> None:
    frame = _acceleration([4.0, 4.1, 3.9])
    frame.loc[3, "identical"] = False
    row = _verdict("C5", acceleration=frame)
    assert row["verdict"] == "contradicted"
    assert "results differ in 1 runs" in row["detail"]


def test_details_tell_what_stands_beside_the_verdict() -> None:
    details = claims.evaluate(_rules(), _everything()).set_index("claim")["detail"]
    assert "ste_mm by count: 2: 0.0125, 3: 0.05" in details["C2"]
    assert "ste_mm mean 0.02, largest pair 0.045 (0.009 nats)" in details["C3"]
    assert "ste mean 0.5, largest pair 0.9 (0.18 nats)" in details["C3"]
    assert f"mean trace by count: 2: 100, 3: {np.mean(100 * np.exp([-0.5, -0.4, -0.6])):.3g}" in details["C4"]
    assert "sharpness_change of ste_mm's scaled_trace: -1" in details["C4"]
    assert "ste_mm 4; results identical in all runs" in details["C5"]


def test_the_scale_invariant_trace_is_judged_by_the_rule_of_the_plain_one() -> None:
    plain, scaled = (_verdict(claim, sharpness=_sharpness([-0.5, -0.4, -0.6])) for claim in ("C4", "C4s"))
    assert plain["verdict"] == scaled["verdict"] == "reproduced"
    assert scaled["effect"] == pytest.approx(2 * plain["effect"])
    assert "ste_mm mean scaled_trace by count" in scaled["detail"]


def test_experiments_are_judged_each_by_its_own_tables() -> None:
    both = {
        name: pd.concat([frame, frame.assign(experiment="another")[: 0 if name == "sharpness" else None]])
        for name, frame in _everything().items()
    }
    frame = claims.evaluate(_rules(), both)
    assert frame[["claim", "experiment"]].to_numpy().tolist()[:2] == [["C1", "another"], ["C1", "digits"]]
    alone = claims.evaluate(_rules(), _everything())
    pd.testing.assert_frame_equal(frame.query("experiment == 'digits'").reset_index(drop=True), alone)
    assert frame.query("experiment == 'another' and claim == 'C4'")["verdict"].item() == "inconclusive"


def test_an_experiment_without_any_rows_is_inconclusive_throughout() -> None:
    frame = claims.evaluate(_rules(), {}, ["digits"])
    assert frame["verdict"].tolist() == ["inconclusive"] * 6


def test_the_same_tables_in_any_order_give_the_same_bytes(tmp_path: Path) -> None:
    for name, order in (("first", slice(None)), ("second", slice(None, None, -1))):
        frame = claims.evaluate(_rules(), {table: part[order] for table, part in _everything().items()})
        write_frame(frame, tmp_path / f"{name}.csv")
        claims.write_markdown(frame, tmp_path / f"{name}.md")
    for ending in ("csv", "md"):
        assert (tmp_path / f"first.{ending}").read_bytes() == (tmp_path / f"second.{ending}").read_bytes()


def test_markdown_puts_the_verdict_first_and_rounds(tmp_path: Path) -> None:
    frame = claims.evaluate(_rules(), _everything() | {"sharpness": _sharpness([0.5])})
    write_frame(frame, tmp_path / "claims.csv")
    claims.write_markdown(tables.read_csv(tmp_path / "claims.csv", "claims"), tmp_path / "claims.md")
    text = (tmp_path / "claims.md").read_text()
    assert (tmp_path / "claims.csv").read_text().splitlines()[4].split(",")[-4:-1] == ["", "", ""]
    assert "4 reproduced, 0 contradicted, 2 inconclusive." in text
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")]
    assert rows[0][0].strip() == "verdict"
    assert [row[0].strip() for row in rows[1:]] == [*["reproduced"] * 3, *["inconclusive"] * 2, "reproduced"]
    low, high = _t_interval([0.05, 0.06, 0.04], 0.95)
    assert rows[2][4].strip() == f"0.05 [{low:.3g}, {high:.3g}]"


def _spoil(change: Callable[[dict[str, Any]], Any]) -> Callable[[], str]:
    def text() -> str:
        content = yaml.safe_load(RULES.read_text())
        change(content)
        return yaml.safe_dump(content)

    return text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            _spoil(lambda rules: rules["claims"][0].update(effect="excess")),
            r"claim 1 \(C1\): no effect called 'excess'",
        ),
        (_spoil(lambda rules: rules["claims"][3].pop("estimator")), r"claim 4 \(C4\): missing key estimator"),
        (_spoil(lambda rules: rules["claims"][1].pop("statement")), "missing key statement"),
        (_spoil(lambda rules: rules["claims"][1].pop("effect")), "missing key effect"),
        (_spoil(lambda rules: rules["claims"][1].update(treshold=1)), "unknown key treshold"),
        (_spoil(lambda rules: rules["claims"][1].update(side="over")), "side is 'over'; write above or below"),
        (_spoil(lambda rules: rules["claims"][1].update(threshold="small")), "threshold is 'small'; write a number"),
        (_spoil(lambda rules: rules["claims"][1].update(methods="ste")), "methods is 'ste'; write a list"),
        (_spoil(lambda rules: rules["claims"][1].update(claim="C1")), "more than one claim called ste_mm C1"),
        (_spoil(lambda rules: rules["claims"].insert(0, "C0")), "claim 1: not keys and values"),
        (_spoil(lambda rules: rules.pop("tolerance")), "missing key tolerance"),
        (_spoil(lambda rules: rules.update(confidence=95)), "confidence is 95"),
        (_spoil(lambda rules: rules.update(claims=None)), "claims is not a list"),
        (lambda: "claims: [", "not YAML"),
        (lambda: "", "not keys and values"),
    ],
)
def test_wrong_rules_are_refused_in_one_line_that_names_the_place(tmp_path: Path, text, message: str) -> None:
    (tmp_path / "claims.yaml").write_text(text())
    with pytest.raises(OnebasinError, match=message) as caught:
        claims.load(tmp_path / "claims.yaml")
    assert str(tmp_path / "claims.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_absent_rules_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OnebasinError, match="cannot be read"):
        claims.load(tmp_path / "absent.yaml")
