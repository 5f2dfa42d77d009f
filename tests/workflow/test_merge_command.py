"""The console command finds and merges as the workflow does, to the byte."""

import subprocess
import sys

import pytest


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("action", "kind", "method", "settings"),
    [("match", "permutations", "weight_matching", []), ("merge", "merged", "ste_mm", ["--set", "epochs=2"])],
)
def test_the_command_writes_what_the_workflow_wrote(finished, tmp_path, action, kind, method, settings):
    results = finished.folder / "results" / "small"
    models = [str(results / f"models/seed-{seed}.safetensors") for seed in (3, 4, 5)]  # those of trial 1
    search = ["--method", method, *settings, "--trial", "1", "--data", str(results / "data.safetensors")]
    program = [sys.executable, "-c", "from onebasin.command import main; main()"]
    output = tmp_path / "output.safetensors"
    subprocess.run([*program, action, *models, *search, "-o", str(output)], check=True, cwd=tmp_path)
    assert output.read_bytes() == (results / f"{kind}/{method}/n3-t1.safetensors").read_bytes()
