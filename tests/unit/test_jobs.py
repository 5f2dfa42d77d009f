import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import onebasin
from onebasin import progress

HEAD = (
    "import logging, sys, warnings, torch\nfrom onebasin.errors import OnebasinError\n"
    "from onebasin.machine.jobs import computing_job\n"
)


@pytest.fixture
def log(tmp_path):
    return tmp_path / "logs" / "job.log"


@pytest.fixture
def run(log):
    """A function that runs a block as a job in a process of its own; it returns the process and its log."""

    def run_block(block, device="cpu", threads=1):
        program = f"{HEAD}with computing_job(sys.argv[1], {threads}, {device!r}) as device:\n    {block}\n"
        environment = os.environ | {"PYTHONPATH": str(Path(onebasin.__file__).parents[1])}
        command = [sys.executable, "-c", program, str(log)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done, log.read_text()

    return run_block


def test_a_users_error_is_one_line_and_status_1(run):
    done, log = run("raise OnebasinError('config: trials: too many')")
    assert done.returncode == 1
    assert done.stderr == "onebasin: config: trials: too many\n"
    assert done.stdout == ""
    assert "onebasin: config: trials: too many" in log
    assert "Traceback" not in log


def test_another_error_leaves_its_traceback_in_the_log_and_on_stderr(run):
    done, log = run("[][3]")
    assert done.returncode != 0
    for text in (log, done.stderr):
        assert "Traceback" in text
        assert "IndexError: list index out of range" in text
    assert "a fault of the program" in log


def test_a_job_does_not_fill_memory_that_it_will_write(run):
    done, _ = run("assert not torch.empty(10**5).isnan().all()")
    assert done.returncode == 0, done.stderr


def test_a_job_computes_deterministically_on_its_threads_and_device(run):
    done, _ = run(
        "print(device, torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), sep='\\n')", threads=2
    )
    assert done.stdout.splitlines() == ["cpu", "2", "True"]
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_logged_and_warned_of_goes_into_the_log_alone_and_replaces_the_last_runs(run, log):
    log.parent.mkdir()
    log.write_text("of the last run")
    done, text = run("logging.getLogger('onebasin.x').info('step %d', 3); warnings.warn('take care')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "step 3" in text
    assert "take care" in text
    assert "of the last run" not in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_one_line(run):
    done, log = run("pass", device="cuda")
    assert done.returncode == 1
    assert done.stderr == "onebasin: config: device: cuda: this machine has no usable GPU; write cpu\n"
    assert "no usable GPU" in log


PEAKS = (
    "from onebasin.machine.jobs import peak_memory_mb as peak; before = peak(); "
    "torch.ones(50_000_000); print(before, peak() - before)"
)


def test_peak_memory_is_of_what_the_job_held_and_not_of_what_its_parent_holds(run):
    held_here = torch.ones(250_000_000)  # more than importing torch takes, which is 0.6 GB with its CUDA libraries
    before, more = map(float, run(PEAKS)[0].stdout.split())
    assert before < held_here.nbytes / 1e6
    assert 150 < more < 300


# Progress


@pytest.fixture
def lines(caplog, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    caplog.set_level("INFO", logger="onebasin")
    return lambda: [record.getMessage() for record in caplog.records]


def test_tracking_yields_every_item_and_logs_a_line_at_the_end(lines):
    assert list(progress.track(iter("abc"), "searching", 3)) == ["a", "b", "c"]
    assert len(lines()) == 1
    assert lines()[0].startswith("searching: 3 of 3 done")


def test_tracking_logs_how_far_a_long_loop_is(lines, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    assert list(progress.track(range(3), "searching", 3)) == [0, 1, 2]
    assert [line.split(",")[0] for line in lines()[:-1]] == [f"searching: {done} of 3" for done in range(3)]


def test_tracking_is_lazy(lines):
    tracked = progress.track(iter([1, 2]), "searching", 2)
    assert next(tracked) == 1
    assert lines() == []


def test_a_bar_on_a_terminal_yields_every_item_and_logs_nothing(lines, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert list(progress.track(range(3), "searching", 3)) == [0, 1, 2]
    assert lines() == []
    assert "searching" in capsys.readouterr().err


def test_a_job_that_does_not_compute_starts_without_torch(tmp_path):
    program = "import sys\nfrom onebasin.machine.jobs import job\n"
    program += "with job(sys.argv[1]):\n    assert 'torch' not in sys.modules"
    environment = os.environ | {"PYTHONPATH": str(Path(onebasin.__file__).parents[1])}
    command = [sys.executable, "-c", program, str(tmp_path / "job.log")]
    subprocess.run(command, env=environment, check=True)


def test_a_computing_job_starts_without_the_compiler(run):
    done, _ = run("assert torch.are_deterministic_algorithms_enabled() and 'torch._inductor' not in sys.modules")
    assert done.returncode == 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that is told so")
def test_memory_of_tensors_that_are_gone_is_used_again(run):
    used = "(torch.ones(10**7), resource.getrusage(resource.RUSAGE_SELF).ru_minflt)[1]"
    done, _ = run(f"import resource; pages = [{used} for _ in range(60)]; print(pages[-1] - pages[-11])")
    assert int(done.stdout) < 1000  # of the 10,000 pages of each tensor, once the heap has grown
