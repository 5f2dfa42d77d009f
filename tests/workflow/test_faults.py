"""Wrong input is refused in one line; what is killed can be run again and ends with the same bytes."""

import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from onebasin.storage import artifacts

pytestmark = pytest.mark.exhaustive

CHECKPOINT = "results/tiny/models/seed-1.safetensors"
KILLS = ["job"] * 3 + ["snakemake"] * 3 + ["everything"] * 2 + ["interrupt"] * 2


@pytest.mark.parametrize(
    ("old", "new", "named", "way_out"),
    [
        ("ste_mm: {epochs: 1}", "ste_nm: {epochs: 1}", "methods.ste_nm", "ste_mm"),  # what the schema refuses
        ("counts: [2]", "counts: [2, 9]", "counts", "add seeds"),  # and what it cannot say
        ("trials: 1", "trials: 1\n    trials: 3", "line 10: trials", "keep one"),
    ],
)
def test_a_wrong_configuration_is_refused_in_one_line_before_anything_runs(fresh_tiny, old, new, named, way_out):
    """The lines themselves are held by tests/unit/test_experiment.py."""
    fresh_tiny.edit("tiny.yaml", old, new)
    done = fresh_tiny.run("--cores", "1")
    lines = [line for line in done.stderr.splitlines() if line.startswith("onebasin: ")]
    assert done.returncode != 0
    assert len(lines) == 1
    assert "Traceback" not in done.stderr
    assert named in lines[0]
    assert way_out in lines[0]
    assert not (fresh_tiny.folder / "results").exists()


def test_make_refuses_a_configuration_that_is_not_there():
    command = ["make", "--dry-run", "CONFIG=config/other.yaml"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert "config/other.yaml: no such configuration" in done.stderr


# Damaged and swapped files


def truncate(path):
    path.write_bytes(path.read_bytes()[:1000])


def flip_in_the_data(path):
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def flip_in_the_facts(path):
    """Another seed, in a header that safetensors reads without complaint."""
    content = path.read_bytes()
    place = content.index(rb"\"seed\": ") + len(rb"\"seed\": ")
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])


def change_a_digit(path):
    text = path.read_text()
    place = re.search("[0-9]", text).start()
    path.write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])


def make_narrower(path):
    artifact = artifacts.load(path, "model")
    tensors = {name: tensor[..., :-1] for name, tensor in artifact.tensors.items()}
    artifacts.save(path, "model", tensors, **artifact.facts)


def train_longer(path):
    artifact = artifacts.load(path, "model")
    artifact.facts["recipe"]["training"]["epochs"] = 7
    artifacts.save(path, "model", artifact.tensors, **artifact.facts)


def rename_the_next_seed(path):
    seed = int(path.stem.removeprefix("seed-"))
    path.write_bytes(path.with_name(f"seed-{seed + 1}.safetensors").read_bytes())


def copy_the_naive_one(path):
    path.write_bytes((path.parents[1] / "naive" / path.name).read_bytes())


# what is damaged, how, what is said of it, and the target whose job reads it: jobs that do not wait for each other
DAMAGES = {
    "models cut short, parents' sharpness": [
        ("models/seed-1.safetensors", truncate, "truncated", "measured/acceleration/t0.csv"),
        ("measured/parents_sharpness/t0.csv", change_a_digit, "checksum", "measured/sharpness/naive-t0.csv"),
    ],
    "facts of models, merged models": [
        ("models/seed-1.safetensors", flip_in_the_facts, "checksum", "measured/acceleration/t0.csv"),
        ("merged/naive/n2-t0.safetensors", flip_in_the_data, "checksum", "measured/sharpness/naive-t0.csv"),
    ],
    "models of another network": [
        ("models/seed-0.safetensors", make_narrower, "the network's is (16,)", "measured/acceleration/t0.csv")
    ],
    "models of another training": [
        ("models/seed-1.safetensors", train_longer, "epochs is 7, expected 4", "measured/acceleration/t0.csv")
    ],
    "models of another seed": [
        (
            "models/seed-0.safetensors",
            rename_the_next_seed,
            "seed is 1, expected 0",
            "measured/parents_sharpness/t0.csv",
        )
    ],
    "permutations": [
        ("permutations/ste_mm/n2-t0.safetensors", flip_in_the_data, "checksum", "merged/ste_mm/n2-t0.safetensors")
    ],
    "permutations of another method": [
        (
            *("permutations/ste_mm/n2-t0.safetensors", copy_the_naive_one),
            *("method is naive, expected ste_mm", "merged/ste_mm/n2-t0.safetensors"),
        )
    ],
    "parts of tables": [("measured/evaluation/naive-t0.csv", change_a_digit, "checksum", "tables/merged.csv")],
    "histories": [("history/seed-1.csv", change_a_digit, "checksum", "tables/history.csv")],
    "symmetries": [("symmetries.json", change_a_digit, "checksum", "merged/ste_mm/n2-t0.safetensors")],
    "data": [("data.safetensors", flip_in_the_data, "checksum", "models/seed-1.safetensors")],
}


@pytest.mark.parametrize("damages", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_or_swapped_file_is_named_by_the_job_that_reads_it(tiny, tmp_path, damages):
    copied = tiny.copied_to(tmp_path / "copy")
    results = copied.folder / "results/tiny"
    for name, damage, _, _ in damages:
        dates = (results / name).stat()
        damage(results / name)
        # its date stays, as it would on a bad disk: only the jobs that are asked for read it
        os.utime(results / name, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    done = copied.run("--cores", "2", "--force", *(f"results/tiny/{target}" for _, _, _, target in damages))
    lines = [line for line in done.stderr.splitlines() if line.startswith("onebasin: ")]
    assert done.returncode != 0
    assert len(lines) == len(damages), done.stderr[-3000:]
    for name, _, why, target in damages:
        assert any(f"results/tiny/{name}: " in line and why in line for line in lines), lines
        assert not (results / target).exists()
    assert "Traceback" not in done.stderr
    assert list(results.rglob(".*")) == []


def test_a_missing_checkpoint_is_trained_again_with_the_same_bytes(tiny, tmp_path):
    copied = tiny.copied_to(tmp_path / "copy")
    before = (copied.folder / CHECKPOINT).read_bytes()
    (copied.folder / CHECKPOINT).unlink()
    copied.make(CHECKPOINT)
    assert (copied.folder / CHECKPOINT).read_bytes() == before


def test_a_missing_checkpoint_of_an_outsider_is_named(fresh_tiny):
    """A file that no rule can make: the search is asked for a model of another pool."""
    done = fresh_tiny.run("--cores", "1", "results/tiny/models/seed-99.safetensors")
    assert done.returncode != 0
    assert "results/tiny/models/seed-99.safetensors" in done.stderr


def test_a_run_that_filled_the_disk_goes_on_once_there_is_room(tiny, fresh_tiny):
    fresh = fresh_tiny
    results, target = fresh.folder / "results", "tiny/data.safetensors"
    results.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", results], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        for options, why in (
            ("ro", "Read-only file system: 'results/tiny'"),
            ("rw", "data.safetensors: not written (No sp"),
        ):
            subprocess.run(["mount", "-o", f"remount,{options}", results], check=True)
            done = fresh.run("--cores", "1", f"results/{target}")
            assert done.returncode != 0
            # Snakemake's own line where it cannot make a folder; the log, which has a time before it, is shown too
            lines = [line for line in done.stderr.splitlines() if line.startswith(("onebasin: ", "OSError: "))]
            assert len(lines) == 1, done.stderr
            assert why in lines[0]
            assert "Traceback" not in done.stderr
            assert list(results.rglob("*.safetensors")) == []
        subprocess.run(["mount", "-o", "remount,size=10m", results], check=True)
        fresh.make(f"results/{target}")
        assert (results / target).read_bytes() == (tiny.folder / "results" / target).read_bytes()
    finally:
        subprocess.run(["umount", "--lazy", results], check=True)


# Runs that are killed, and runs that meet


def test_a_run_killed_ten_times_at_random_moments_ends_with_the_same_bytes(tiny, fresh_tiny):
    """Seed 0 draws the moments, up to a second after none to two more jobs are done, and the order of the victims."""
    draws = random.Random(0)
    for victim in draws.sample(KILLS, len(KILLS)):
        process = start(fresh_tiny, "--cores", "2")
        wait_for_jobs(process)
        wait_until_done(fresh_tiny, process, draws.choice([0, 0, 1, 2]))
        time.sleep(draws.uniform(0, 1))
        kill(process, victim)
        assert process.wait() != 0, f"the run had ended before {victim} was killed"
        assert fresh_tiny.clean_up().returncode == 0
    fresh_tiny.make()
    ours, theirs = fresh_tiny.products(), tiny.products()
    assert {"tiny/tables/merged.csv", "tiny/merged/ste_mm/n2-t0.safetensors", "claims.csv"} <= ours.keys()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


def test_one_core_gives_the_bytes_of_two(tiny, fresh_tiny):
    fresh_tiny.make(cores=1)
    ours, theirs = tiny.products(), fresh_tiny.products()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


def test_a_second_run_in_the_folder_is_refused_while_the_first_is_alive(tiny, fresh_tiny):
    target = "results/tiny/models/seed-0.safetensors"
    first = start(fresh_tiny, "--cores", "1", target)
    wait_for_jobs(first)
    by_hand, by_make = fresh_tiny.run("--cores", "1", target), fresh_tiny.clean_up()
    assert first.wait() == 0, "the first run was disturbed"
    assert by_hand.returncode == 1
    assert "no other Snakemake process is trying to create the same files" in by_hand.stderr
    assert "Traceback" not in by_hand.stderr
    assert by_make.returncode == 1
    assert by_make.stderr.startswith("onebasin: ")
    assert f"process {first.pid}" in by_make.stderr
    assert (fresh_tiny.folder / target).read_bytes() == (tiny.folder / target).read_bytes()


def start(clone, *arguments):
    """A run in a process group of its own, which can be interrupted even if the tests run in the background."""
    return subprocess.Popen(
        clone.command(*arguments),
        cwd=clone.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # else it would inherit that it is ignored
    )


def kill(process, victim):
    """End a run: kill a job (and end the rest in order), Snakemake alone, or all of it; or interrupt it like Ctrl-C.

    Jobs that Snakemake leaves behind are alive: they are orphans to clean up.
    """
    if victim == "everything":
        os.killpg(process.pid, signal.SIGKILL)
    elif victim == "interrupt":
        os.killpg(process.pid, signal.SIGINT)
    elif victim == "snakemake":
        process.kill()
    else:
        for job in jobs_of(process)[:1]:  # none at a moment between two jobs
            os.kill(job, signal.SIGKILL)
        process.terminate()


def jobs_of(process):
    """The process ids of a run's jobs."""
    command = ["pgrep", "-f", "-s", str(process.pid), "snakemake/scripts/"]
    return [int(job) for job in subprocess.run(command, capture_output=True, text=True).stdout.split()]


def wait_for_jobs(process):
    while not jobs_of(process):
        assert process.poll() is None, "no job started"
        time.sleep(0.1)


def wait_until_done(clone, process, count):
    """Wait until the latest run has finished so many jobs."""
    log = max((clone.folder / ".snakemake/log").iterdir())
    while log.read_text().count("Finished jobid") < count and process.poll() is None:
        time.sleep(0.1)
