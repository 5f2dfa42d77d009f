"""Tables: what is written is read back, what is broken is refused, and formatted numbers are the recomputed ones."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from onebasin.errors import OnebasinError
from onebasin.storage.files import write_frame
from onebasin.storage.parts import read_parts, read_texts, write_parts
from onebasin.tables import collect as tables
from onebasin.tables import summaries
from onebasin.tables.record import records, table

SUMMARISED = [name for name, record in records().items() if record.get("words")]


def _merged(trials: int = 3, methods: tuple[str, ...] = ("naive", "ste_mm")) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        ["digits", method, count, trial, split, *rng.random(8)]
        for method in methods
        for count in (2, 10)
        for trial in range(trials)
        for split in ("train", "test")
    ]
    return pd.DataFrame(rows, columns=list(table("merged").columns))


def _sharpness() -> pd.DataFrame:
    rows = [
        ["digits", "ste_mm", 2, trial, model, "test", estimator, value + trial, 0.5, 100]
        for trial in (0, 1)
        for estimator in ("trace", "scaled_trace")
        for model, value in (("merged", 100.0), (10, 200.0), (9, 400.0))
    ]
    return pd.DataFrame(rows, columns=list(table("sharpness").columns))


def _cells(text: str) -> list[str]:
    return [cell.strip() for line in text.splitlines() if line.startswith("|") for cell in line.strip("|").split("|")]


def test_a_table_read_back_is_the_table_written(tmp_path: Path) -> None:
    frame = tables.check(_merged().round(6), "merged")
    write_frame(frame, tmp_path / "merged.csv")
    pd.testing.assert_frame_equal(tables.read_csv(tmp_path / "merged.csv", "merged"), frame)


def test_types_survive_columns_that_look_like_others(tmp_path: Path) -> None:
    rows = [["007", "ste", 2, 0, True, 3, 4.0, 5, 1.0, True], ["007", "ste", 2, 0, False, 3, np.nan, 5, 1.0, False]]
    frame = tables.check(pd.DataFrame(rows, columns=list(table("acceleration").columns)), "acceleration")
    write_frame(frame, tmp_path / "table.csv")
    again = tables.read_csv(tmp_path / "table.csv", "acceleration")
    pd.testing.assert_frame_equal(again, frame)
    assert again["experiment"].tolist() == ["007", "007"]
    assert again["objective"].dtype == "float64"


def test_the_same_frame_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_frame(_merged(), tmp_path / name)
    written = (tmp_path / "first").read_bytes()
    assert written == (tmp_path / "second").read_bytes()
    assert b"\r" not in written
    assert b"0.636961687" in written  # the generator's first number, 0.6369616873..., to nine digits


def test_the_order_of_the_parts_does_not_matter(tmp_path: Path) -> None:
    parts = []
    for (method, trial), part in _merged().groupby(["method", "trial"]):
        parts.append(tmp_path / f"{method}-{trial}.csv")
        write_parts({"merged": part}, parts[-1])
    forward = tables.collect(parts, "merged", methods=["ste_mm", "naive"])
    pd.testing.assert_frame_equal(forward, tables.collect(parts[::-1], "merged", methods=["ste_mm", "naive"]))
    assert forward["method"].unique().tolist() == ["ste_mm", "naive"]
    assert forward["count"].unique().tolist() == [2, 10]
    assert len(forward) == len(_merged())


def test_methods_without_a_place_come_last_by_name(tmp_path: Path) -> None:
    write_parts({"merged": _merged(methods=("b", "ste_mm", "a"))}, tmp_path / "part.csv")
    assert tables.collect([tmp_path / "part.csv"], "merged", ["ste_mm"])["method"].unique().tolist() == [
        *("ste_mm", "a", "b")
    ]


def test_models_are_text_with_merged_first_and_seeds_by_number(tmp_path: Path) -> None:
    write_parts({"sharpness": _sharpness()}, tmp_path / "part.csv")
    frame = tables.collect([tmp_path / "part.csv"], "sharpness")
    assert frame["model"].unique().tolist() == ["merged", "9", "10"]


def test_a_part_without_rows_adds_nothing(tmp_path: Path) -> None:
    write_parts({"merged": _merged()}, tmp_path / "full.csv")
    write_parts({"merged": _merged()[:0]}, tmp_path / "none.csv")
    both = tables.collect([tmp_path / "none.csv", tmp_path / "full.csv"], "merged")
    pd.testing.assert_frame_equal(both, tables.collect([tmp_path / "full.csv"], "merged"))
    assert tables.collect([tmp_path / "none.csv"], "merged").empty


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: "", "empty"),
        (lambda text: text[:-1], "cut short"),
        (lambda text: text.rsplit(",", 1)[0] + "\n", "uneven rows"),
        (lambda text: text.replace("parents_loss", "loss_of_parents"), "missing column parents_loss; unknown column"),
        (lambda text: text.replace("naive", ""), "empty cells in column method"),
        (lambda text: text + text.splitlines()[-1] + "\n", "more than one row for experiment digits"),
        (lambda text: text.replace("0.636961687", "high"), "column loss holds something that is not a number"),
        (lambda text: text.replace("digits,naive,2", "digits,naive,2.5"), "not whole"),
    ],
)
def test_a_broken_file_is_refused_in_one_line_that_names_it(tmp_path: Path, damage, message: str) -> None:
    path = tmp_path / "merged.csv"
    write_frame(_merged(), path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(OnebasinError, match=message) as caught:
        tables.read_csv(path, "merged")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-1],
        lambda text: text.replace("0.636961687", "0.636961688"),
        lambda text: "\n".join(text.splitlines()[:-2]) + "\n",
        lambda text: "\n".join(text.splitlines()[:-1]) + "\n",
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text + text.splitlines()[1] + "\n",
    ],
    ids=["empty", "a byte less", "a digit", "a row less", "no checksum", "line ends", "a row more"],
)
def test_a_part_that_is_not_as_it_was_written_is_named(tmp_path: Path, damage) -> None:
    whole, path = tmp_path / "whole.csv", tmp_path / "part.csv"
    write_parts({"merged": _merged()}, whole)
    path.write_bytes(damage(whole.read_bytes().decode()).encode())
    with pytest.raises(OnebasinError, match=r"part\.csv: its rows do not match its checksum"):
        tables.collect([path], "merged")
    assert len(tables.collect([whole], "merged")) == len(_merged())


def test_an_absent_file_an_unknown_table_and_no_parts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OnebasinError, match="no such file"):
        tables.read_csv(tmp_path / "absent.csv", "merged")
    with pytest.raises(OnebasinError, match="no table called 'merge'"):
        tables.check(_merged(), "merge")
    with pytest.raises(OnebasinError, match="no parts"):
        tables.collect([], "merged")
    with pytest.raises(OnebasinError, match="no summary"):
        summaries.summarise(_merged(), "interpolation")


def test_a_summary_is_mean_and_sample_deviation_over_trials() -> None:
    frame = _merged()
    row = summaries.summarise(frame, "merged").query("method == 'ste_mm' and count == 10 and split == 'test'").iloc[0]
    losses = frame.query("method == 'ste_mm' and count == 10 and split == 'test'")["loss"].to_numpy()
    assert row["loss_mean"] == pytest.approx(losses.sum() / 3)
    assert row["loss_sd"] == pytest.approx(np.sqrt(((losses - losses.mean()) ** 2).sum() / 2))
    assert row["trials"] == 3


def test_pairs_are_averaged_within_a_trial_before_trials_are_counted() -> None:
    rows = [
        ["digits", "ste", 3, trial, "test", a, b, barrier + 10 * trial, 0.0]
        for trial in (0, 1)
        for (a, b), barrier in {(0, 1): 1.0, (0, 2): 2.0, (1, 2): 6.0}.items()
    ]
    frame = pd.DataFrame(rows, columns=list(table("pairwise").columns))
    row = summaries.summarise(frame, "pairwise").iloc[0]
    assert (row["barrier_loss_mean"], row["trials"]) == (8.0, 2)
    assert row["barrier_loss_sd"] == pytest.approx(np.std([3.0, 13.0], ddof=1))


def test_sharpness_of_the_parents_is_apart_from_that_of_the_merged_model() -> None:
    summary = summaries.summarise(_sharpness(), "sharpness").query("estimator == 'trace'").set_index("role")
    assert summary["value_mean"].to_dict() == {"merged": 100.5, "parents": 300.5}


def test_a_control_is_none_of_the_parents_and_a_table_without_methods_has_a_summary() -> None:
    control = _sharpness().replace({"model": {9: "rescaled"}})
    summary = summaries.summarise(control, "sharpness").query("estimator == 'trace'").set_index("role")
    assert summary["value_mean"].to_dict() == {"merged": 100.5, "parents": 200.5, "rescaled": 400.5}
    rows = [["digits", "w", trial, "test", model, 0.1 + model, 0.5] for trial in (0, 1) for model in (0, 1)]
    lines = pd.DataFrame(rows, columns=list(table("monotonic", ["asymmetry"]).columns))
    of_models = summaries.summarise(lines, "monotonic", ["asymmetry"])
    assert of_models.to_dict("records")[0]["rise_mean"] == pytest.approx(0.6)
    assert list(of_models.columns[:3]) == ["experiment", "asymmetry", "split"]


def test_a_diverged_trial_is_not_left_out_of_the_mean() -> None:
    frame = _merged()
    frame.loc[0, "loss"] = np.nan
    summary = summaries.summarise(frame, "merged")
    assert summary["loss_mean"].isna().sum() == 1
    assert (summary["trials"] == 3).all()


def test_markdown_and_latex_show_the_recomputed_numbers(tmp_path: Path) -> None:
    frame = _merged()
    summary = summaries.summarise(frame, "merged")
    summaries.write_markdown(summary, "merged", tmp_path / "table.md")
    summaries.write_latex(summary, "merged", tmp_path / "table.tex")
    markdown, latex = ((tmp_path / f"table.{ending}").read_text() for ending in ("md", "tex"))
    cells = _cells(markdown)
    for _, rows in frame.groupby(["method", "count", "split"]):
        loss, accuracy = rows["loss"], 100 * rows["accuracy"]
        assert f"{loss.mean():.3f} ± {loss.std(ddof=1):.3f}" in cells
        assert f"{accuracy.mean():.2f} ± {accuracy.std(ddof=1):.2f}" in cells
        assert rf"${loss.mean():.3f} \pm {loss.std(ddof=1):.3f}$" in latex
        assert rf"${accuracy.mean():.2f} \pm {accuracy.std(ddof=1):.2f}$" in latex
    assert len(re.findall(" ± [0-9]", markdown)) == latex.count(r" \pm ") == 2 * 2 * 2 * 8
    assert "method (n = 3)" in cells
    assert "method (n = 3)" in latex
    assert r"ste\_mm" in latex
    assert latex.count(r"\toprule") == 2


def test_one_trial_shows_the_value_alone(tmp_path: Path) -> None:
    frame = _merged(trials=1)
    summaries.write_markdown(summaries.summarise(frame, "merged"), "merged", tmp_path / "table.md", ["loss"])
    cells = _cells((tmp_path / "table.md").read_text())
    assert f"{frame['loss'][0]:.3f}" in cells
    assert not any("±" in cell for cell in cells)
    assert "method (n = 1)" in cells


def test_different_numbers_of_trials_are_told(tmp_path: Path) -> None:
    frame = _merged().query("not (method == 'naive' and trial == 2)")
    summaries.write_markdown(summaries.summarise(frame, "merged"), "merged", tmp_path / "table.md")
    assert "method (n = 2 to 3)" in (tmp_path / "table.md").read_text()


def test_roles_and_warm_starts_stand_side_by_side(tmp_path: Path) -> None:
    summaries.write_markdown(summaries.summarise(_sharpness(), "sharpness"), "sharpness", tmp_path / "sharpness.md")
    sharpness = (tmp_path / "sharpness.md").read_text()
    assert _cells(sharpness)[:4] == ["method (n = 2)", "count", "merged", "parents"]
    assert _cells(sharpness)[-4:] == ["ste_mm", "2", "100 ± 1", "300 ± 1"]
    assert sharpness.count("## ") == 2
    rows = [["digits", "ste_mm", 5, 0, warm, 9, 9, scans, 1.0, True] for warm, scans in ((True, 10), (False, 50))]
    summary = summaries.summarise(pd.DataFrame(rows, columns=list(table("acceleration").columns)), "acceleration")
    summaries.write_markdown(summary, "acceleration", tmp_path / "acceleration.md", ["row_scans"])
    assert _cells((tmp_path / "acceleration.md").read_text())[2:4] == ["row scans, warm start", "row scans, cold start"]


def test_a_cutoff_has_a_row_of_its_own(tmp_path: Path) -> None:
    rows = [
        ["digits", "weight_matching", 2, trial, "test", gamma, 0, 1, share, barrier + 0.01 * trial, 0.0]
        for trial in (0, 1)
        for gamma, share, barrier in ((0.0, 1.0, 0.1), (0.5, 0.05, 0.2))
    ]
    summary = summaries.summarise(pd.DataFrame(rows, columns=list(table("truncation").columns)), "truncation")
    summaries.write_markdown(summary, "truncation", tmp_path / "truncation.md", ["kept_share", "barrier_loss"])
    cells = _cells((tmp_path / "truncation.md").read_text())
    assert cells[:5] == ["method (n = 2)", "count", "gamma", "kept share (%)", "barrier loss"]
    assert cells[-5:] == ["weight_matching", "2", "0.5", "5.00 ± 0.00", "0.2050 ± 0.0071"]


def test_layers_stay_in_the_order_of_the_network_and_ranks_are_numbers(tmp_path: Path) -> None:
    for model in (10, 9):
        rows = [["digits", 0, model, layer, rank, 1.0] for layer in ("stem", "block10", "block2") for rank in (1, 0)]
        part = pd.DataFrame(rows, columns=list(table("singular_values").columns))
        write_parts({"singular_values": part}, tmp_path / f"{model}.csv")
    frame = tables.collect([tmp_path / "10.csv", tmp_path / "9.csv"], "singular_values")
    assert frame["model"].tolist() == ["9"] * 6 + ["10"] * 6
    assert frame["layer"].tolist() == [layer for layer in ("stem", "block10", "block2") for _ in (0, 1)] * 2
    assert frame["rank"].tolist() == [0, 1] * 6


def test_every_summarised_table_can_be_set_even_without_rows(tmp_path: Path) -> None:
    for name in SUMMARISED:
        summary = summaries.summarise(pd.DataFrame(columns=list(table(name).columns)), name)
        summaries.write_markdown(summary, name, tmp_path / "none.md")
        summaries.write_latex(summary, name, tmp_path / "none.tex")
        assert (tmp_path / "none.md").read_text() == "No data.\n"


def test_an_unknown_quantity_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OnebasinError, match="no quantity speed"):
        summaries.write_markdown(summaries.summarise(_merged(), "merged"), "merged", tmp_path / "table.md", ["speed"])


# Parts


def test_a_file_of_parts_holds_each_table_as_it_was(tmp_path: Path) -> None:
    write_parts({"merged": _merged(), "sharpness": _sharpness(), "timing": _merged()[:0]}, tmp_path / "parts.csv")
    found = read_parts(tmp_path / "parts.csv")
    assert list(found) == ["merged", "sharpness", "timing"]
    pd.testing.assert_frame_equal(found["merged"], _merged().round(9), rtol=1e-8)
    assert len(found["sharpness"]) == len(_sharpness())
    assert found["timing"].empty
    collected = tables.collect([tmp_path / "parts.csv"], "sharpness")
    assert len(collected) == len(_sharpness())


def test_a_part_that_lacks_the_table_is_named(tmp_path: Path) -> None:
    write_parts({"merged": _merged()}, tmp_path / "parts.csv")
    with pytest.raises(OnebasinError, match=r"parts\.csv: has no table sharpness"):
        tables.collect([tmp_path / "parts.csv"], "sharpness")


def test_a_row_is_written_as_a_frame_of_one_row_would_be(tmp_path: Path) -> None:
    row = {"method": "ste", "count": 3, "seconds": 1 / 3, "steps": None, "memory": float("nan"), "note": 'a, "b"'}
    write_parts({"timing": row}, tmp_path / "row.csv")
    write_parts({"timing": pd.DataFrame([row])}, tmp_path / "frame.csv")
    assert read_texts(tmp_path / "row.csv") == read_texts(tmp_path / "frame.csv")


# Studies


def _study() -> pd.DataFrame:
    frames = {name: _merged().assign(experiment=name) for name in ("wide_width_16", "wide_width_64")}
    varied = {"wide_width_16": {"width": 16, "norm": "batch"}, "wide_width_64": {"width": 64, "norm": "none"}}
    return tables.together(frames, "merged", varied)


def test_a_studys_table_has_its_experiments_with_what_is_varied(tmp_path: Path) -> None:
    study = _study()
    assert list(study.columns) == ["experiment", "width", "norm", *list(table("merged").columns)[1:]]
    assert len(study) == 2 * len(_merged())
    write_frame(study, tmp_path / "merged.csv")
    again = tables.read_csv(tmp_path / "merged.csv", "merged", ["width", "norm"])
    assert again["width"].unique().tolist() == [16, 64]
    assert again["norm"].unique().tolist() == ["batch", "none"]
    with pytest.raises(OnebasinError, match="unknown column width"):
        tables.read_csv(tmp_path / "merged.csv", "merged")


def test_a_studys_summary_has_a_row_for_what_is_varied(tmp_path: Path) -> None:
    varied = ["width", "norm"]
    summary = summaries.summarise(_study().assign(experiment="wide"), "merged", varied)
    assert len(summary) == 2 * len(summaries.summarise(_merged(), "merged"))
    summaries.write_markdown(summary, "merged", tmp_path / "merged.md", ["loss"], varied)
    text = (tmp_path / "merged.md").read_text()
    assert text.count("## wide: merged") == 2  # the two splits
    assert _cells(text)[:5] == ["method (n = 3)", "count", "width", "norm", "loss"]
