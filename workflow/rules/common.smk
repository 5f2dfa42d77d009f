# What the rules share: the library's place, the experiments, and helpers that name files and parameters.
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

WORKFLOW = Path(str(workflow.current_basedir)).parent
# the library that jobs import is the one that stands beside these rules, whatever else is installed
sys.path.insert(0, str(WORKFLOW))
os.environ["PYTHONPATH"] = os.pathsep.join([str(WORKFLOW), *filter(None, [os.environ.get("PYTHONPATH")])])

from onebasin.errors import OnebasinError
from onebasin.experiment import explain, plan_stacks, read_experiments, read_stacks, write_stacks
from onebasin.fingerprint import fingerprint
from onebasin.registry import builtins

STACKS_FILE = "results/{experiment}/models/stacks.json"

try:
    validate(config, "../schemas/config.schema.yaml")
    EXPERIMENTS = read_experiments(config)
    STACKS = {
        name: plan_stacks(experiment, read_stacks(STACKS_FILE.format(experiment=name)))
        for name, experiment in EXPERIMENTS.items()
    }
except OnebasinError as error:
    raise SystemExit(f"onebasin: {error}")
except WorkflowError as error:
    raise SystemExit(f"onebasin: {explain(error.__context__)}")


wildcard_constraints:
    method=r"[a-z][a-z0-9_]*",
    n=r"\d+",  # a count; Snakemake keeps the name "count" for itself
    trial=r"\d+",
    figure="|".join(builtins("figure")),


# Bits depend on the number of threads, so it is what the configuration says, not how many there happen to be.
COMPUTE = {"threads": config["threads"], "device": config["device"]}
GPU = int(config["device"] == "cuda")
CONDA = "../../envs/onebasin.yaml"


def code(script, *functions):
    """The fingerprint of a script, of all it imports, and of the modules of `module:callable`s it looks up by name."""
    return fingerprint(WORKFLOW / "scripts" / script, *[function.partition(":")[0] for function in functions])


def models_of_trial(experiment):
    """An input function: the checkpoints of a trial, of its first `count` models where the job has a count `n`."""

    def checkpoints(wildcards):
        count = wildcards.get("n")
        seeds = experiment.models_of(int(wildcards.trial), int(count) if count else None)
        return expand("results/{name}/models/seed-{seed}.safetensors", name=experiment.name, seed=seeds)

    return checkpoints


def of_counts(experiment, kind, counts):
    """The permutations or merged models of a method and trial (both left as wildcards), one file a count."""
    pattern = "results/{name}/{kind}/{{method}}/n{count}-t{{trial}}.safetensors"
    return expand(pattern, name=experiment.name, kind=kind, count=counts)
