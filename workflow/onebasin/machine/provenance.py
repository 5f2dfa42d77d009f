"""What a reader needs to make the same numbers again: versions, commit, machine."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pandas as pd

from onebasin.machine.devices import hardware

PACKAGES = (
    *("onebasin", "torch", "torchvision", "numpy", "scipy", "numba", "scikit-learn", "pandas", "safetensors"),
    *("PyHessian", "matplotlib", "seaborn", "snakemake"),
)


def provenance(threads: int, device: str) -> pd.DataFrame:
    """Name and value of everything outside the configuration that the bits of a result may depend on."""
    facts = {
        "commit": _git("rev-parse", "HEAD") or "not a git checkout",
        "uncommitted changes": {"": "no"}.get(_git("status", "--porcelain"), "yes"),
        "python": sys.version.split()[0],
        **{package: _version(package) for package in PACKAGES},
        "system": platform.platform(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "threads per job": str(threads),
        "device": hardware(device),
        "deterministic algorithms": "yes",
    }
    return pd.DataFrame(facts.items(), columns=["what", "value"])


def _git(*arguments: str) -> str:
    """What git prints about the project's checkout; nothing where there is no git or no checkout."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """The processor's name as Linux gives it, or what the platform says."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
