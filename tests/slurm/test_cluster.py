"""The tiny experiment on a real SLURM, while its jobs are killed: the same bytes as on one machine.

One run serves all tests: two trainings that ask for a GPU are killed, one from inside and one by `scancel`, and a
search is taken back by the cluster.
"""

import importlib.util
import os
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from sandbox import missing, sandbox

WITHOUT = ", ".join(missing())
pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(bool(WITHOUT), reason=f"needs SLURM (Debian: slurm-wlm, munge); this machine has no {WITHOUT}"),
    pytest.mark.skipif(
        importlib.util.find_spec("snakemake_executor_plugin_slurm") is None,
        reason="needs snakemake-executor-plugin-slurm",
    ),
]

# as shipped, but for the pauses, and for trainings that want a GPU though they compute without one
PROFILE = [
    *("--profile", "workflow/profiles/slurm", "--latency-wait", "5", "--slurm-init-seconds-before-status-checks", "1"),
    *("--set-resources", "train:gpu=1", "--"),
]


@dataclass
class Job:
    """What SLURM knows of a job."""

    number: int
    state: str
    partition: str
    cpus: int
    memory: str
    time_limit: str
    rule: str


@dataclass
class Run:
    clone: Any  # of the project: what tests/conftest.py makes
    jobs: dict[str, list[Job]]  # by rule and wildcards, in the order in which they were submitted
    gpus: list[str]  # what CUDA_VISIBLE_DEVICES was in trainings that ran at the same time
    taken_back: int  # the number of the job that was requeued
    restarts: str  # and what SLURM says of it


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with sandbox(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


@pytest.fixture(scope="module")
def run(cluster: dict[str, str], tiny: Any, new_clone: Callable[..., Any]) -> Run:
    clone = new_clone("cluster", "tiny.yaml")
    tables = [f"results/tiny/tables/{path.name}" for path in tiny.folder.glob("results/tiny/tables/*.csv")]

    def ask(*command: str) -> str:
        return subprocess.run(command, env=cluster, check=True, capture_output=True, text=True).stdout

    log = clone.folder / "snakemake.log"
    with log.open("w") as output:
        command = clone.command(*PROFILE, *tables)
        process = subprocess.Popen(command, cwd=clone.folder, env=cluster, stdout=output, stderr=subprocess.STDOUT)
    try:
        trainings = stopped(process, clone.folder, "train.py", 2)
        gpus = [training.environ()["CUDA_VISIBLE_DEVICES"] for training in trainings]
        trainings[0].kill()
        ask("scancel", trainings[1].environ()["SLURM_JOB_ID"])
        (search,) = stopped(process, clone.folder, "match.py", 1)
        taken_back = search.environ()["SLURM_JOB_ID"]
        ask("scontrol", "requeue", taken_back)
        assert process.wait() == 0, log.read_text()[-5000:]
    finally:
        process.kill()
    jobs = defaultdict(list)
    for line in ask("squeue", "--states=all", "--noheader", "--sort=i", "--format=%i|%T|%P|%C|%m|%l|%k").splitlines():
        number, state, partition, cpus, *others = line.split("|")
        job = Job(int(number), state, partition, int(cpus), *others)
        jobs[job.rule.removeprefix("rule_").replace("_wildcards_", " ")].append(job)
    return Run(clone, jobs, gpus, int(taken_back), ask("scontrol", "show", "job", taken_back))


def stopped(process: subprocess.Popen, folder: Path, script: str, number: int) -> list[psutil.Process]:
    """So many of a run's jobs that execute a script, halted as they come so that they are there at the same time."""
    found: list[psutil.Process] = []
    while len(found) < number:
        assert process.poll() is None, (folder / "snakemake.log").read_text()[-5000:]
        time.sleep(0.05)
        for other in psutil.process_iter():
            if other not in found and runs(other, f"{folder}/.snakemake/scripts/", script) and len(found) < number:
                os.kill(other.pid, signal.SIGSTOP)
                found.append(other)
    return found


def runs(process: psutil.Process, folder: str, script: str) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return len(words) == 2 and words[1].startswith(folder) and words[1].endswith(script)


def test_a_cluster_gives_the_bytes_of_one_machine(run, tiny):
    ours, theirs = run.clone.products(), tiny.products()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    made = {name for name in theirs if name.startswith("tiny/") and not name.startswith("tiny/figures/")}
    assert made - ours.keys() == set()


def test_what_was_killed_ran_again_with_more_memory_and_time(run):
    for rule, end in [("train tiny_0", {"FAILED", "CANCELLED"}), ("train tiny_1", {"FAILED", "CANCELLED"})]:
        first, second = run.jobs[rule]
        assert first.state in end
        assert second.state == "COMPLETED"
        assert (first.memory, second.memory) == ("1500M", "3000M")
        assert (first.time_limit, second.time_limit) == ("1:00:00", "2:00:00")
    assert {run.jobs[rule][0].state for rule in ("train tiny_0", "train tiny_1")} == {"FAILED", "CANCELLED"}


def test_what_the_cluster_took_back_it_ran_again_by_itself(run):
    (jobs,) = [jobs for jobs in run.jobs.values() if jobs[0].number == run.taken_back]
    assert [job.state for job in jobs] == ["COMPLETED"]
    assert "Restarts=1" in run.restarts


def test_every_job_that_asks_for_a_gpu_has_one_of_its_own(run):
    """And the two did not wait for each other, though one machine lets one of them run at a time."""
    assert sorted(run.gpus) == ["0", "1"]
    gpu = {rule for rule, jobs in run.jobs.items() if jobs[0].partition == "gpu"}
    assert gpu == {"train tiny_0", "train tiny_1"}


def test_the_measurements_of_a_trial_share_a_job_and_tables_are_made_at_home(run):
    rules = {rule.split()[0] for rule in run.jobs}
    measured = "measure_measure_search_measure_trial_merge"
    others = {"data", "symmetries", "train", "match", "match_each", "measure_trial", "measure_experiment"}
    assert rules == {measured, *others}
    assert [(job.state, job.cpus) for job in run.jobs[measured]] == [("COMPLETED", 3)]
