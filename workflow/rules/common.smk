# What the rules share: the library's place, the configuration, and helpers that name files and parameters.
import functools
import os
import shlex
import sys
from pathlib import Path

import snakemake.benchmark

WORKFLOW = Path(str(workflow.current_basedir)).parent
# the library that jobs import is the one that stands beside these rules, whatever else is installed
sys.path.insert(0, str(WORKFLOW))
os.environ.update(PYTHONPATH=os.pathsep.join([str(WORKFLOW), *filter(None, [os.environ.get("PYTHONPATH")])]))
# Snakemake puts the path of Python into the shell as it stands, and a folder may have a space in its name
if Path(sys.executable).is_file():  # not quoted yet
    sys.executable = shlex.quote(sys.executable)

from onebasin.config.experiment import (
    figures_from,
    read_configuration,
    read_downloads,
    require_checkpoints,
    require_claims,
)
from onebasin.config.fingerprint import fingerprint
from onebasin.config.repeated_keys import refuse_repeated_keys
from onebasin.errors import OnebasinError
from onebasin.machine.devices import device_named
from onebasin.registry import entries
from onebasin.tables.record import records

MODEL = "results/{experiment}/models/seed-{seed}.safetensors"

# Snakemake looks at the memory of every job in these intervals; twice a second took a tenth of a core.
snakemake.benchmark.BENCHMARK_INTERVAL_SHORT = 1

try:
    refuse_repeated_keys(workflow.configfiles)
    CONFIGURATION = read_configuration(config)
    EXPERIMENTS, STUDIES = CONFIGURATION.experiments, CONFIGURATION.studies
    require_checkpoints(EXPERIMENTS, MODEL)
    require_claims(CONFIGURATION.claims)
    DOWNLOADS = read_downloads(EXPERIMENTS)
except OnebasinError as error:
    raise SystemExit(f"onebasin: {error}")

# Bits depend on the number of threads, so it is what the configuration says, not how many there happen to be.
COMPUTE = {"threads": config["threads"], "device": device_named(config["device"])}
ON_CPU = {**COMPUTE, "device": "cpu"}
GPU = int(COMPUTE["device"] != "cpu")
CONDA = "../../envs/onebasin.yaml"


def any_of(names):
    """A wildcard's pattern: one of the names; nothing if there are none."""
    return "|".join(map(str, names)) or "(?!)"


wildcard_constraints:
    experiment=any_of(EXPERIMENTS),
    method=any_of(dict.fromkeys(method for e in EXPERIMENTS.values() for method in e["methods"])),
    n=r"\d+",  # a count; Snakemake keeps the name "count" for itself
    seed=r"\d+",
    trial=r"\d+",


def of(reading):
    """An input or parameter that is read off the wildcards' experiment."""
    return lambda wildcards: reading(EXPERIMENTS[wildcards.experiment])


def alike(reading, subjects=EXPERIMENTS):
    """Experiments that share a rule, as their outputs in it are the same: `reading` says which.

    Yields the end of the rule's name (nothing, if all share one), their names, and what `reading` said.
    """
    groups = {}
    for name, subject in subjects.items():
        for found in reading(subject):
            groups.setdefault(found, []).append(name)
    for number, (found, names) in enumerate(groups.items()):
        yield f"_{number + 1}" if len(groups) > 1 else "", names, list(found)


@functools.cache
def code(script, *functions):
    """The fingerprint of a script, of all it imports, and of the modules of `module:callable`s it looks up by name."""
    return fingerprint(WORKFLOW / "scripts" / script, *[function.partition(":")[0] for function in functions])


def trial_models(wildcards):
    """The checkpoints of a trial, of its first models where the job has a count `n`."""
    experiment, count = EXPERIMENTS[wildcards.experiment], int(wildcards.get("n", 0)) or None
    return expand(MODEL, experiment=experiment.name, seed=experiment.models_of(int(wildcards.trial), count))
