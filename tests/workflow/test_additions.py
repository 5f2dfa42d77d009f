"""An addition is one file and one entry: those of CONTRIBUTING.md, as printed, in an otherwise empty folder."""

import re
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from onebasin.config.fingerprint import PACKAGE_FOLDER

PROJECT = PACKAGE_FOLDER.parents[1]
CLAIMS = {
    "confidence": 0.95,
    "tolerance": 0.15,
    "claims": [
        {
            "paper": "own",
            "claim": "O1",
            "statement": "Merged models have weights",
            "effect": "norm",
            "methods": ["naive", "shuffle"],
            "side": "above",
            "threshold": 0,
        }
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder after a run of the real Snakefile, report included."""
    folder = tmp_path_factory.mktemp("own")
    text = (PROJECT / "CONTRIBUTING.md").read_text()
    for kind, name in (("python", "own.py"), ("toml", "own.toml"), ("yaml", "own.yaml")):
        (block,) = re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)
        (folder / name).write_text(block)
    (folder / "own_claims.yaml").write_text(yaml.safe_dump(CLAIMS))
    for arguments in (["--cores", "2"], ["--report", "results/report.html"]):
        done = run(folder, *arguments)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


def run(folder, *arguments):
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(PROJECT / "Snakefile"), "--configfile", "own.yaml"]
    return subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True)


def planned(folder):
    done = run(folder, "--dry-run")
    return done.stdout + done.stderr


def test_a_data_set_a_network_and_a_method_run_through(folder):
    merged = pd.read_csv(folder / "results/own/tables/merged.csv")
    assert set(merged["method"]) == {"naive", "shuffle"}
    assert len(list((folder / "results/own/models").iterdir())) == 4


def test_a_measure_fills_its_table_and_nothing_else_is_measured(folder):
    norms = pd.read_csv(folder / "results/own/tables/norms.csv")
    assert list(norms.columns) == ["experiment", "method", "count", "trial", "norm"]
    assert len(norms) == 4
    assert (norms["norm"] > 0).all()
    summary = (folder / "results/own/tables/norms.md").read_text()
    assert "## own: norms" in summary
    measured = {path.name for path in (folder / "results/own/measured").iterdir()}
    assert measured == {"norms", "evaluation"}


def test_a_figure_and_a_table_are_in_the_report_with_their_words(folder):
    assert (folder / "results/own/figures/norms.png").stat().st_size > 1000
    report = (folder / "results/report.html").read_text()
    assert "The norm of the merged model against N." in report
    assert "Norms of merged models." in report


def test_a_claim_is_judged_by_the_effect(folder):
    verdicts = pd.read_csv(folder / "results/claims.csv")
    assert verdicts[["claim", "experiment", "verdict"]].to_numpy().tolist() == [["O1", "own", "reproduced"]]
    assert "the norm of the merged model" in verdicts["detail"].iloc[0]


def test_run_again_nothing_is_done_and_a_changed_program_repeats_what_uses_it(folder):
    assert "Nothing to be done" in planned(folder)
    program = (folder / "own.py").read_text()
    try:
        (folder / "own.py").write_text(f"# a comment\n{program}")
        assert "Nothing to be done" in planned(folder)
        (folder / "own.py").write_text(program.replace(".abs()", ".square()"))
        assert "measure_search" in planned(folder)
    finally:
        (folder / "own.py").write_text(program)
