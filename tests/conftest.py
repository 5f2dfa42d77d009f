"""The real Snakefile, run in copies of the project that stand in temporary folders."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

PROJECT = Path(__file__).parents[1]
CONFIGS = PROJECT / "tests" / "workflow"
VARIES = ("logs", "benchmarks", "timing")  # times, and what names them


class Clone:
    """A copy of the project without its results, and the means to run its workflow on `config`."""

    def __init__(self, folder: Path, config: str = "small.yaml") -> None:
        self.folder, self.config = folder, config
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        folder.mkdir(exist_ok=True)
        for name in ("workflow", "config", "envs"):
            shutil.copytree(PROJECT / name, folder / name, ignore=ignored)
        shutil.copy(PROJECT / "Snakefile", folder)
        shutil.copy(CONFIGS / config, folder)
        (folder / "profiles").symlink_to("workflow/profiles")

    @classmethod
    def at(cls, folder: Path, config: str) -> "Clone":
        """The clone that is in this folder already."""
        clone = cls.__new__(cls)
        clone.folder, clone.config = folder, config
        return clone

    def copied_to(self, folder: Path) -> "Clone":
        """The clone with all that is in it, in a new folder."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Clone.at(folder, self.config)

    def command(self, *arguments: str, config: str | None = None) -> list[str]:
        return [sys.executable, "-m", "snakemake", "--configfile", config or self.config, *arguments]

    def run(self, *arguments: str, config: str | None = None) -> subprocess.CompletedProcess:
        command = self.command(*arguments, config=config)
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True)

    def make(self, *arguments: str, cores: int = 2) -> subprocess.CompletedProcess:
        """Run the workflow; fail with its output if it does."""
        done = self.run("--cores", str(cores), *arguments)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done

    def clean_up(self) -> subprocess.CompletedProcess:
        """What `make` does first: put away what a killed run left."""
        command = [sys.executable, "workflow/scripts/unlock_stale.py", "--configfile", self.config]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True)

    def planned(self, *arguments: str) -> Counter:
        """How many jobs of each rule a run would do, by `job_name`; the target rules aside."""
        done = self.run("--dry-run", *arguments)
        assert done.returncode == 0, done.stderr[-3000:]
        jobs = self.jobs_of(done.stdout + done.stderr)
        return Counter(job["name"] for job in jobs if job["name"] not in ("default", "all"))

    @staticmethod
    def jobs_of(plan: str) -> list[dict[str, str]]:
        """The jobs that a dry run prints, as dictionaries of what it says of each.

        The `name` is the rule's, with the measure or the method behind it: `match[ste]`, `measure_search[sharpness]`.
        """
        jobs = []
        for rule, block in re.findall(r"^ *(?:local)?rule (\w+):\n((?: +[a-z]+: .*\n)*)", plan, re.MULTILINE):
            job = dict(line.strip().split(": ", 1) for line in block.splitlines())
            wildcards = dict(part.split("=") for part in job.get("wildcards", "").split(", ") if part)
            about = wildcards.get("measure") or wildcards.get("method")
            jobs.append({**job, "name": f"{rule}[{about}]" if about else rule})
        return jobs

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.folder / path
        text = file.read_text()
        assert old in text, f"{path} has no {old!r}"
        file.write_text(text.replace(old, new, 1))

    def products(self) -> dict[str, bytes]:
        """Everything that two runs must agree on, to the byte."""
        results = self.folder / "results"
        return {
            str(path.relative_to(results)): path.read_bytes()
            for path in sorted(results.rglob("*"))
            if path.is_file()
            and not set(path.parts) & set(VARIES)
            and not path.name.startswith("timing.")
            and path.name not in ("report.html", "provenance.csv")
        }


@pytest.fixture(scope="session")
def new_clone(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Clone]:
    """Makes clones without results, for fixtures that live longer than a test."""
    return lambda name, config="small.yaml": Clone(tmp_path_factory.mktemp(name), config)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which the small experiment was run with two cores. Tests leave it as it is."""
    return finished_once(tmp_path_factory, "small.yaml")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which the tiny experiment was run with two cores. Tests leave it as it is."""
    return finished_once(tmp_path_factory, "tiny.yaml")


def finished_once(tmp_path_factory: pytest.TempPathFactory, config: str) -> Clone:
    """A clone with results that all workers of pytest-xdist share: the first that wants it makes it, others wait."""
    folder = tmp_path_factory.getbasetemp()
    shared = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / f"finished-{Path(config).stem}"
    with FileLock(f"{shared}.lock"):
        if shared.exists():
            clone = Clone.at(shared, config)
            assert (shared / "results/claims.csv").is_file(), "another worker failed to make it"
        else:
            clone = Clone(shared, config)
            clone.make()
    return clone


@pytest.fixture
def copied(finished: Clone, tmp_path: Path) -> Clone:
    """A clone of one's own that has the finished results and Snakemake's memory of them."""
    return finished.copied_to(tmp_path / "copy")


@pytest.fixture
def fresh(tmp_path: Path) -> Clone:
    """A clone without results."""
    return Clone(tmp_path)


@pytest.fixture
def fresh_tiny(tmp_path: Path) -> Clone:
    """A clone without results, for the tiny experiment."""
    return Clone(tmp_path, "tiny.yaml")


@pytest.fixture(scope="session")
def one_thread():
    """Results depend on the number of threads in their last bits."""
    import torch  # which the tests of the workflow do without

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
