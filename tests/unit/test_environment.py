"""What is pinned is what is installed, and the workflow's own process stays light."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from onebasin.registry import entries

ENVS = Path(__file__).parents[2] / "envs"
OURS = {"onebasin", "pip"}


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(file="requirements.txt"):
    lines = (ENVS / file).read_text().splitlines()
    return {canonical(name): version for name, _, version in (line.partition("==") for line in lines) if version}


def test_every_installed_package_is_pinned_at_its_version():
    installed = {
        canonical(found.metadata["Name"]): found.version.partition("+")[0] for found in metadata.distributions()
    }
    # what torch brings along for its own build (CUDA) is pinned by torch itself
    loose = {name for name in installed if name.startswith(("nvidia-", "cuda-", "triton"))} | OURS
    # what make test-all adds may be there or not
    zoo = {name: version for name, version in pins("zoo.txt").items() if name in installed}
    assert {name: version for name, version in installed.items() if name not in loose} == pins() | zoo


def test_what_pyproject_asks_for_is_pinned_within_its_ranges():
    project = tomllib.loads((ENVS.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for asked, pinned in (
        (project["dependencies"] + extras["workflow"], pins()),
        (extras["zoo"], pins("zoo.txt")),
    ):
        for requirement in map(Requirement, asked):
            assert requirement.specifier.contains(pinned[canonical(requirement.name)]), requirement


def test_the_zoo_pins_what_it_needs_and_repeats_nothing():
    zoo, both = pins("zoo.txt"), pins() | pins("zoo.txt")
    assert not zoo.keys() & pins().keys()
    for name in zoo:
        try:
            needed = map(Requirement, metadata.requires(name) or ())
        except metadata.PackageNotFoundError:
            pytest.skip(f"{name} is not installed: make .venv/zoo")
        for requirement in needed:
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                assert requirement.specifier.contains(both[canonical(requirement.name)]), (name, requirement)


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
    program = f"import sys, onebasin.config.experiment, onebasin.config.fingerprint, onebasin.registry; print({heavy})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("scripts", "measures", "allowed"),
    [
        (("data", "match", "merge"), (), set()),
        (("train", "measure"), ("evaluation", "geometry", "spectra", "landscape"), {"pandas"}),
    ],
    ids=["no tables", "tables"],
)
def test_jobs_import_only_what_they_need(scripts, measures, allowed):
    """What a search or a measure needs beyond torch (numba, SciPy, PyHessian) it imports itself."""
    scripts = [ENVS.parent / "workflow" / "scripts" / f"{name}.py" for name in scripts]
    imports = [
        ast.unparse(node)
        for script in scripts
        for node in ast.parse(script.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    heavy = "{'pandas', 'scipy', 'sklearn', 'numba', 'torchvision', 'pyhessian', 'matplotlib'} & set(sys.modules)"
    imports += [f"import {entries('measure')[name]['function'].partition(':')[0]}" for name in measures]
    program = "\n".join(["import sys", *imports, f"print(*{heavy})"])
    environment = {**os.environ, "PYTHONPATH": str(ENVS.parent / "workflow")}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert set(done.stdout.split()) == allowed
