"""The small experiment from nothing: everything the contract names is there, and only once."""

import pandas as pd
import pytest
import yaml
from safetensors.torch import load_file

from onebasin.storage import artifacts
from onebasin.tables.record import table as record

SHUFFLE = """
from onebasin.symmetry.alignment import Alignment
from onebasin.symmetry.apply import random_elements


def shuffle(models, spec, data, settings, generator):
    return Alignment(random_elements(spec, len(models), generator), {"steps": 0})
"""
METHODS = ("naive", "weight_matching", "ste", "ste_mm")


def test_every_file_of_the_contract_is_made(finished):
    results = finished.folder / "results"
    small = results / "small"
    expected = [small / f"models/seed-{seed}.safetensors" for seed in range(6)]
    for method in METHODS:
        for kind in ("permutations", "merged"):
            expected += [
                small / f"{kind}/{method}/n{count}-t{trial}.safetensors" for count in (2, 3) for trial in (0, 1)
            ]
    summarised = ("merged", "pairwise", "sharpness", "timing", "top_eigenvalue", "acceleration")
    for table in (*summarised, "distance", "three_models", "truncation"):
        expected += [small / f"tables/{table}.{suffix}" for suffix in ("csv", "md", "tex")]
    for figure in ("merged", "pairwise", "pairwise_matrix", "interpolation", "sharpness", "landscape"):
        expected += [small / f"figures/{figure}.{suffix}" for suffix in ("pdf", "png")]
    for table in ("taylor", "alignment", "singular_values", "responses", "sharpness_layers"):
        expected += [small / f"tables/{table}.csv"]
    for figure in ("distance", "taylor", "singular_values", "responses", "alignment", "alignment_layers"):
        expected += [small / f"figures/{figure}.{suffix}" for suffix in ("pdf", "png")]
    for figure in ("alignment_barrier", "three_models", "truncation"):
        expected += [small / f"figures/{figure}.{suffix}" for suffix in ("pdf", "png")]
    expected += [small / "data.safetensors"]
    expected += [results / name for name in ("claims.csv", "claims.md", "provenance.csv", "config.yaml")]
    assert [path for path in expected if not path.is_file()] == []


@pytest.mark.parametrize(
    "table", ["merged", "pairwise", "sharpness", "sharpness_layers", "timing", "alignment", "three_models"]
)
def test_tables_have_the_columns_of_the_contract_in_order(finished, table):
    header = (finished.folder / f"results/small/tables/{table}.csv").read_text().splitlines()[0]
    assert header.split(",") == list(record(table).columns)


def test_every_run_has_its_row(finished):
    merged = pd.read_csv(finished.folder / "results/small/tables/merged.csv")
    runs = merged.groupby(["method", "count", "trial", "split"]).size()
    assert len(runs) == len(METHODS) * 2 * 2 * 2
    assert (runs == 1).all()


def test_the_table_says_what_the_merged_files_are(finished):
    """The merged model is the mean of the permuted parents that the row names; recomputed from the files alone."""
    small = finished.folder / "results/small"
    merged = artifacts.load(small / "merged/ste_mm/n3-t1.safetensors", "merged")
    assert merged.facts["models"] == [3, 4, 5]
    permutations = load_file(small / "permutations/ste_mm/n3-t1.safetensors")
    parents = [load_file(small / f"models/seed-{seed}.safetensors") for seed in (3, 4, 5)]
    group = sorted(permutations)[0]
    rows = [parent["1.bias"][permutations[group][i]] for i, parent in enumerate(parents)]
    assert (sum(rows) / 3 - merged.tensors["1.bias"]).abs().max() < 1e-6


def test_a_model_by_model_search_for_fewer_models_is_the_beginning_of_that_for_more(finished):
    folder = finished.folder / "results/small/permutations/ste"
    two, three = (load_file(folder / f"n{count}-t0.safetensors") for count in (2, 3))
    for group, index in two.items():
        assert (three[group][:2] == index).all()


def test_models_matched_to_the_first_are_those_of_a_search_that_leaves_it(finished):
    """Of such methods the three-model test reads the barriers that are there; others have a search of their own."""
    small = finished.folder / "results/small/tables"
    third, pairs = (pd.read_csv(small / f"{table}.csv") for table in ("three_models", "pairwise"))
    assert set(third["method"]) == set(METHODS)
    assert set(third["count"]) == {3}
    key = ["method", "count", "trial", "split", "model_a", "model_b"]
    both = third.merge(pairs, on=key, suffixes=("", "_of_pair"))
    assert len(both) == len(third) == len(METHODS) * 2 * 2
    same = both["barrier_loss"] == both["barrier_loss_of_pair"]
    assert same[both["method"] != "weight_matching"].all()


def test_traces_are_exact_and_the_sums_of_their_layers(finished):
    tables = finished.folder / "results/small/tables"
    traces, layers = (pd.read_csv(tables / f"{table}.csv") for table in ("sharpness", "sharpness_layers"))
    assert (traces["standard_error"] == 0).all()
    assert (traces["probes"] == 0).all()
    key = ["method", "count", "trial", "model", "split", "estimator"]
    sums = layers.groupby(key)["value"].sum()
    assert sums.to_numpy() == pytest.approx(traces.set_index(key)["value"].loc[sums.index].to_numpy(), rel=1e-6)
    assert len(sums) == len(traces)


def test_a_second_run_has_nothing_to_do(finished):
    done = finished.make()
    assert "Nothing to be done" in done.stdout + done.stderr


def test_the_report_holds_figures_tables_claims_and_configuration(copied):
    done = copied.run("--report", "results/report.html")
    assert done.returncode == 0, done.stderr[-2000:]
    report = (copied.folder / "results/report.html").read_text()
    for content in (
        "01. Claims",
        "02. Figures",
        "03. Tables",
        "04. Configuration and versions",
        "05. Why matching works",
        "landscape.png",
        "merged.html",
    ):
        assert content in report
    verdicts = pd.read_csv(copied.folder / "results/claims.csv")
    assert all(f"{row.claim} of {row.paper}, small: {row.verdict}" in report for row in verdicts.itertuples())


def test_the_configuration_beside_the_results_gives_the_same_results(copied):
    used = yaml.safe_load((copied.folder / "results/config.yaml").read_text())
    (copied.folder / "again.yaml").write_text(yaml.safe_dump(used, sort_keys=False))
    done = copied.run("--dry-run", config="again.yaml")
    assert "Nothing to be done" in done.stdout + done.stderr


@pytest.mark.exhaustive
def test_an_experiment_of_one_trial_two_models_and_its_own_method_runs_through(fresh):
    """The least there can be: no plane, no STE-MM, no interval; and a method of one's own."""
    (fresh.folder / "shuffle.py").write_text(SHUFFLE)
    line = 'shuffle: {function: "shuffle:shuffle"}'
    fresh.edit("small.yaml", "counts: [2, 3]", "counts: [2]")
    fresh.edit("small.yaml", "trials: 2", "trials: 1")
    fresh.edit("small.yaml", "seeds: [0-3, 4-5]", "seeds: [0, 1]")
    for method in ("weight_matching: {}", "ste: {epochs: 2}", "ste_mm: {epochs: 2}"):
        fresh.edit("small.yaml", f"      {method}\n", "")
    fresh.edit("small.yaml", "      naive: {}\n", f"      naive: {{}}\n      {line}\n")
    fresh.make()
    merged = pd.read_csv(fresh.folder / "results/small/tables/merged.csv")
    assert set(merged["method"]) == {"naive", "shuffle"}
    claims = pd.read_csv(fresh.folder / "results/claims.csv")
    assert set(claims["verdict"]) == {"inconclusive"}
