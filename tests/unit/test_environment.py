"""What is pinned is what is installed, and the workflow's own process stays light."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import yaml

ENVS = Path(__file__).parents[2] / "envs"
OURS = {"onebasin", "pip"}


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pins():
    lines = (ENVS / "requirements.txt").read_text().splitlines()
    return {canonical(name): version for name, _, version in (line.partition("==") for line in lines) if version}


def test_every_installed_package_is_pinned_at_its_version():
    installed = {
        canonical(found.metadata["Name"]): found.version.partition("+")[0] for found in metadata.distributions()
    }
    # what torch brings along for its own build (CUDA) is pinned by torch itself
    loose = {name for name in installed if name.startswith(("nvidia-", "cuda-", "triton"))} | OURS
    assert {name: version for name, version in installed.items() if name not in loose} == pins()


def test_the_conda_environment_has_the_same_versions():
    *packages, pip = yaml.safe_load((ENVS / "onebasin.yaml").read_text())["dependencies"]
    named = [
        re.split("=+", package) for package in [*packages, *pip["pip"]] if "=" in package and "python=" not in package
    ]
    assert len(named) > 10
    for name, version in named:
        assert pins()[canonical(name).removesuffix("-base")] == version, name


def test_building_the_graph_imports_neither_torch_nor_pandas():
    heavy = "{'torch', 'pandas', 'numpy', 'matplotlib'} & set(sys.modules)"
    program = f"import sys, onebasin.experiment, onebasin.fingerprint, onebasin.registry; print({heavy})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
