"""Where the project may stand, and what it may run on: a folder with an awkward name, a second Python."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
AWKWARD = "ein schöner Ort"  # spaces, and a letter beyond ASCII
PYTHONS = ("3.13", "3.12", "3.11", "3.14")  # 3.14 last: not all that is pinned has a wheel for it yet
GIGABYTES = 8  # torch's CUDA build, which PyPI has for Linux, takes 6
OFFLINE = r"(?s)after connection broken by .*No matching distribution|Max retries exceeded"


@pytest.fixture
def clone(new_clone):
    """A clone in an awkward folder, of which nothing stays: an installation takes gigabytes."""
    clone = new_clone(AWKWARD, "tiny.yaml")
    yield clone
    shutil.rmtree(clone.folder)


def test_jobs_run_with_a_python_whose_path_has_spaces(clone):
    (clone.folder / ".venv").symlink_to(sys.prefix)
    python = clone.folder / ".venv" / "bin" / "python"
    command = [python, *clone.command("--cores", "1", "results/tiny/data.safetensors")[1:]]
    done = subprocess.run(command, cwd=clone.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.exhaustive
def test_the_tiny_experiment_runs_with_a_second_python(clone):
    """As a user has it: `make` with nothing there, and a Python of another minor version than this one."""
    python, version = second_python()
    if shutil.disk_usage(clone.folder).free < GIGABYTES * 1e9:
        pytest.skip(f"less than {GIGABYTES} GB free in {clone.folder.parent}")
    for name in ("Makefile", "pyproject.toml", "README.md"):
        shutil.copy(PROJECT / name, clone.folder)

    installed = make(clone, "install", f"PYTHON={python}")
    if installed.returncode and re.search(OFFLINE, installed.stderr):
        pytest.skip("pip reaches no package index to install from")
    assert installed.returncode == 0, installed.stdout[-3000:] + installed.stderr[-3000:]
    done = make(clone, "CONFIG=tiny.yaml", "CORES=2")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    results = clone.folder / "results"
    made = ["merged/ste_mm/n2-t0.safetensors", "tables/merged.csv", "figures/merged.pdf"]
    for path in [results / "claims.csv", results / "report.html", *(results / "tiny" / name for name in made)]:
        assert path.is_file(), path
    assert f"\npython,{version}." in (results / "provenance.csv").read_text()


def second_python():
    """A Python of another minor version than this one that can make environments, and its version; or a skip."""
    others = [version for version in PYTHONS if version != "{}.{}".format(*sys.version_info)]
    for version in others:
        name = f"python{version}"
        found = [shutil.which(name), f"/usr/bin/{name}", *Path.home().glob(f".pyenv/versions/{version}.*/bin/{name}")]
        for python in filter(None, found):
            if runs(python, version):
                return python, version
    pytest.skip(f"no second Python found: none of {', '.join(others)} on PATH, in /usr/bin or ~/.pyenv")


def runs(python, version):
    """Whether there is such a Python; pyenv's shims are files, but fail where their version is not activated."""
    program = "import ensurepip, sys, venv; print(*sys.version_info[:2], sep='.')"
    try:
        done = subprocess.run([python, "-c", program], capture_output=True, text=True)
    except OSError:
        return False
    return done.stdout.strip() == version


def make(clone, *arguments):
    """Run `make` in the clone, without what the `make` that runs the tests hands down."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=clone.folder, env=environment, capture_output=True, text=True)
