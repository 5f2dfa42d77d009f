"""Wrong input is refused in one line; what is killed can be run again and ends with the same bytes."""

import os
import signal
import subprocess
import time

import pytest
from safetensors.torch import load_file

from onebasin import artifacts

CHECKPOINT = "results/small/models/seed-1.safetensors"
PERMUTATIONS = "results/small/permutations/ste_mm/n2-t0.safetensors"


@pytest.mark.parametrize(
    ("old", "new", "named", "way_out"),
    [
        ("ste_mm: {epochs: 2}", "ste_nm: {epochs: 2}", "methods.ste_nm", "ste_mm"),
        ("counts: [2, 3]", "counts: [2, 9]", "counts", "add seeds"),
        ("epochs: 6", "epochs: -6", "training.epochs", "minimum of 1"),
        ("epochs: 6", "epoch: 6", "training.epoch", "epochs"),
        ("optimizer: adam", "optimizer: adm", "training.optimizer", "adam"),
        ("name: mlp", "name: mpl", "network.name", "mlp"),
        ("name: digits", "name: digit", "data.name", "digits"),
        ("trials: 2", "trials: two", "trials", "integer"),
        ("trials: 2", "trials: 2\n    resources: {trian: {runtime: 5}}", "resources.trian", "train"),
        ("trials: 2", "trials: 2\n    resources: {train: {runtime: 0}}", "resources.train.runtime", "minimum of 1"),
        ("    counts: [2, 3]\n", "", "counts", "required"),
        ("trials: 2", "trials: 2\n    trials: 3", "line 10: trials", "keep one"),
        (
            "    training: {opt",
            "    models: {checkpoints: [a, b]}\n    training: {opt",
            "experiments.small",
            "or models",
        ),
        ("  small:\n", "  Small Experiment:\n", "Small Experiment", "small letters"),
    ],
)
def test_a_wrong_configuration_is_refused_in_one_line(fresh, old, new, named, way_out):
    fresh.edit("small.yaml", old, new)
    done = fresh.run("--cores", "1")
    lines = [line for line in done.stderr.splitlines() if line.startswith("onebasin: ")]
    assert done.returncode != 0
    assert len(lines) == 1
    assert "Traceback" not in done.stderr
    assert named in lines[0]
    assert way_out in lines[0]
    assert not (fresh.folder / "results").exists()


def truncate(path):
    path.write_bytes(path.read_bytes()[:1000])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(bytes(content))


def empty(path):
    path.write_bytes(b"")


def another_shape(path):
    artifact = artifacts.load(path, "model")
    tensors = {name: tensor[..., :-1].clone() for name, tensor in artifact.tensors.items()}
    artifacts.save(path, "model", tensors, **artifact.facts)


def another_kind(path):
    artifacts.save(path, "merged", load_file(path))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (truncate, "truncated"),
        (empty, "truncated"),
        (flip_a_bit, "checksum"),
        (another_shape, "the configured network's is"),
        (another_kind, "expected 'model'"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_nothing_half_written(copied, damage, why):
    damage(copied.folder / CHECKPOINT)
    done = copied.run("--cores", "1", "--force", PERMUTATIONS)
    lines = [line for line in done.stderr.splitlines() if line.startswith("onebasin: ")]
    assert done.returncode != 0
    assert len(lines) == 1
    assert CHECKPOINT in lines[0]
    assert why in lines[0]
    assert not (copied.folder / PERMUTATIONS).exists()
    assert list(copied.folder.glob("results/small/permutations/ste_mm/.*")) == []


def test_a_missing_checkpoint_is_trained_again_with_the_same_bytes(copied):
    before = (copied.folder / CHECKPOINT).read_bytes()
    (copied.folder / CHECKPOINT).unlink()
    copied.make(CHECKPOINT)
    assert (copied.folder / CHECKPOINT).read_bytes() == before


def test_a_missing_checkpoint_of_an_outsider_is_named(copied):
    """A file that no rule can make: the search is asked for a model of another pool."""
    done = copied.run("--cores", "1", "results/small/models/seed-99.safetensors")
    assert done.returncode != 0
    assert "results/small/models/seed-99.safetensors" in done.stderr


@pytest.mark.parametrize("victim", ["snakemake", "job", "interrupt"])
def test_a_killed_run_is_completed_with_the_same_bytes(finished, fresh, victim):
    targets = [PERMUTATIONS, "results/small/models/seed-5.safetensors"]
    process = subprocess.Popen(
        fresh.command("--cores", "2", *targets),
        cwd=fresh.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    children = wait_for_jobs(process)
    if victim == "interrupt":
        os.killpg(process.pid, signal.SIGINT)
    else:
        os.kill(process.pid if victim == "snakemake" else children[0], signal.SIGKILL)
    process.wait(timeout=60)
    assert process.returncode != 0
    assert fresh.clean_up().returncode == 0
    fresh.make(*targets)
    for target in targets:
        assert (fresh.folder / target).read_bytes() == (finished.folder / target).read_bytes()


def test_a_second_run_in_the_folder_is_refused_while_the_first_is_alive(fresh):
    target = "results/small/models/seed-0.safetensors"
    first = subprocess.Popen(
        fresh.command("--cores", "1", target),
        cwd=fresh.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for_jobs(first)
    second = fresh.clean_up()
    assert first.wait(timeout=120) == 0, "the first run was disturbed"
    assert second.returncode == 1
    assert f"process {first.pid}" in second.stderr


def wait_for_jobs(process):
    """The process ids of running jobs, once there are some; they have had a moment to get going."""
    command = ["pgrep", "-f", "-s", str(process.pid), "snakemake/scripts/"]
    for _ in range(300):
        time.sleep(0.1)
        found = subprocess.run(command, capture_output=True, text=True).stdout.split()
        if found:
            time.sleep(1)
            return [int(child) for child in found]
    raise AssertionError("no job started")
