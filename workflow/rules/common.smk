# What the rules share: the library's place, the experiments, and helpers that name files and parameters.
import os
import shlex
import sys
from pathlib import Path

import snakemake.benchmark
from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

WORKFLOW = Path(str(workflow.current_basedir)).parent
# the library that jobs import is the one that stands beside these rules, whatever else is installed
sys.path.insert(0, str(WORKFLOW))
os.environ.update(PYTHONPATH=os.pathsep.join([str(WORKFLOW), *filter(None, [os.environ.get("PYTHONPATH")])]))
# Snakemake puts the path of Python into the shell as it stands, and a folder may have a space in its name
if Path(sys.executable).is_file():  # not quoted yet
    sys.executable = shlex.quote(sys.executable)

from onebasin.devices import device_named
from onebasin.errors import OnebasinError
from onebasin.experiment import (
    explain,
    plan_stacks,
    read_downloads,
    read_experiments,
    read_stacks,
    require_checkpoints,
    write_stacks,
)
from onebasin.fingerprint import fingerprint
from onebasin.registry import builtins
from onebasin.repeated_keys import refuse_repeated_keys

MODEL_FILE = "results/{experiment}/models/seed-{seed}.safetensors"
STACKS_FILE = "results/{experiment}/models/stacks.json"

# Snakemake looks at the memory of every job in these intervals; twice a second took a tenth of a core.
snakemake.benchmark.BENCHMARK_INTERVAL_SHORT = 1

try:
    refuse_repeated_keys(workflow.configfiles)
    validate(config, "../onebasin/config/schema.yaml")
    EXPERIMENTS = read_experiments(config)
    require_checkpoints(EXPERIMENTS, MODEL_FILE)
    DOWNLOADS = read_downloads(EXPERIMENTS)
    STACKS = {
        name: plan_stacks(experiment, read_stacks(STACKS_FILE.format(experiment=name)))
        for name, experiment in EXPERIMENTS.items()
        if not experiment.checkpoints
    }
except OnebasinError as error:
    raise SystemExit(f"onebasin: {error}")
except WorkflowError as error:
    raise SystemExit(f"onebasin: {explain(error.__context__)}")


wildcard_constraints:
    n=r"\d+",  # a count; Snakemake keeps the name "count" for itself
    trial=r"\d+",
    archives="|".join(DOWNLOADS) or "none",


# Bits depend on the number of threads, so it is what the configuration says, not how many there happen to be.
COMPUTE = {"threads": config["threads"], "device": device_named(config["device"])}
GPU = int(COMPUTE["device"] != "cpu")
CONDA = "../../envs/onebasin.yaml"


def code(script, *functions):
    """The fingerprint of a script, of all it imports, and of the modules of `module:callable`s it looks up by name."""
    return fingerprint(WORKFLOW / "scripts" / script, *[function.partition(":")[0] for function in functions])


def place_of(experiment):
    """A parameter: where the archives of an experiment's data are, if it has any; they are there by then.

    As a function of the input it is no reason to run again: archives are the same wherever they are.
    """
    return lambda wildcards, input: {**DOWNLOADS[experiment.archives], "download": False} if input else {}


def models_of_trial(experiment):
    """An input function: the checkpoints of a trial, of its first `count` models where the job has a count `n`."""

    def checkpoints(wildcards):
        count = wildcards.get("n")
        seeds = experiment.models_of(int(wildcards.trial), int(count) if count else None)
        return expand(MODEL_FILE, experiment=experiment.name, seed=seeds)

    return checkpoints


def of_methods(experiment, kind, methods):
    """The permutations or merged models of methods and a trial (left as a wildcard): a file a method and count."""
    pattern = "results/{name}/{kind}/{method}/n{count}-t{{trial}}.safetensors"
    return expand(pattern, name=experiment.name, kind=kind, method=methods, count=experiment.counts)


def blocks_of_methods(experiment):
    """Which methods share the jobs that measure: most of a small job is its start. The names of rules tell blocks apart."""
    methods = list(experiment["methods"])
    size = experiment["methods_per_job"] or len(methods)
    blocks = [methods[start : start + size] for start in range(0, len(methods), size)]
    return {experiment.name if len(blocks) == 1 else f"{experiment.name}_{block[0]}": block for block in blocks}


def remember_stacks():
    """Write down which seeds train together, so that a seed added later does not join a stack that is done."""
    try:
        for experiment, stacks in STACKS.items():
            write_stacks(STACKS_FILE.format(experiment=experiment), stacks)
    except OnebasinError as error:
        raise SystemExit(f"onebasin: {error}")


SUMMARISED = ["merged", "pairwise", "sharpness", "top_eigenvalue", "timing", "acceleration"]
SUMMARISED_ANALYSES = ["distance", "three_models", "truncation"]
WHY = "5. Why matching works"


def parts_of(experiment):
    """The jobs' measurements that make up the tables of an experiment, by table."""
    runs = {"name": experiment.name, "method": list(experiment["methods"]), "trial": experiment.trials}
    parts = {
        "merged": expand("results/{name}/evaluation/{method}/t{trial}-merged.csv", **runs),
        "pairwise": expand("results/{name}/evaluation/{method}/t{trial}-pairwise.csv", **runs),
        "interpolation": expand("results/{name}/evaluation/{method}/t{trial}-interpolation.csv", **runs),
        "sharpness": expand("results/{name}/sharpness/{method}/t{trial}.csv", **runs),
        "sharpness_layers": expand("results/{name}/sharpness/{method}/t{trial}-layers.csv", **runs),
        "top_eigenvalue": expand("results/{name}/sharpness/{method}/t{trial}-top_eigenvalue.csv", **runs),
        "timing": [
            f"results/{experiment.name}/timing/{method}/n{count}-t{trial}.csv"
            for method in experiment["methods"]
            for trial in experiment.trials
            for count in experiment.searched_counts(method)
        ],
    }
    if not experiment.checkpoints:
        history = "results/{name}/history/seed-{seed}.csv"
        parts["history"] = expand(history, name=experiment.name, seed=experiment["seeds"])
    if experiment.plane_count:
        parts["landscape"] = expand("results/{name}/landscape/{method}.csv", **runs)
    for table in ("distance", "taylor", "alignment"):
        parts[table] = expand("results/{name}/analysis/{method}/t{trial}-{table}.csv", table=table, **runs)
    for table in ("singular_values", "responses"):
        parts[table] = [f"results/{experiment.name}/analysis/{table}.csv"]
    if experiment.anchored_counts:
        parts["three_models"] = expand("results/{name}/analysis/three_models/t{trial}.csv", **runs)
    if "weight_matching" in experiment["methods"]:
        parts["truncation"] = expand("results/{name}/analysis/truncation/t{trial}.csv", **runs)
    if "ste_mm" in experiment["methods"]:
        parts["acceleration"] = expand("results/{name}/acceleration/t{trial}.csv", **runs)
    return {table: list(dict.fromkeys(files)) for table, files in parts.items()}


def table_files(experiment, table):
    """The files of a table by suffix: the CSV, and a summary for readers where there is one to make."""
    if table not in SUMMARISED + SUMMARISED_ANALYSES:
        return {"csv": f"results/{experiment.name}/tables/{table}.csv"}
    files = {suffix: f"results/{experiment.name}/tables/{table}.{suffix}" for suffix in ("csv", "md", "tex", "html")}
    files["html"] = report(
        files["html"],
        caption=f"../report/table_{table}.rst",
        category="3. Tables" if table in SUMMARISED else WHY,
        subcategory=experiment.name,
        labels={"table": table.replace("_", " ")},
    )
    return files


def figures_of(experiment):
    """The figures whose tables the experiment has."""
    return [name for name, facts in builtins("figure").items() if set(facts["tables"]) <= set(parts_of(experiment))]


def drawn_tables(experiment):
    """The tables that the experiment's figures are drawn from."""
    return list(dict.fromkeys(table for name in figures_of(experiment) for table in builtins("figure")[name]["tables"]))


def figure_files(experiment, figure):
    """The files of a figure; the report shows the PNG."""
    facts = builtins("figure")[figure]
    png = report(
        f"results/{experiment.name}/figures/{figure}.png",
        caption=f"../report/{figure}.rst",
        category=WHY if facts.get("analysis") else "2. Figures",
        subcategory=experiment.name,
        labels={"figure": facts["title"]},
    )
    return [f"results/{experiment.name}/figures/{figure}.pdf", png]


# every experiment with every block of its methods
BLOCKS = [
    (experiment, block, methods)
    for experiment in EXPERIMENTS.values()
    for block, methods in blocks_of_methods(experiment).items()
]
CHECKPOINTS = [
    MODEL_FILE.format(experiment=experiment.name, seed=seed)
    for experiment in EXPERIMENTS.values()
    for seed in experiment["seeds"]
]
TABLES = [
    path
    for experiment in EXPERIMENTS.values()
    for table in parts_of(experiment)
    for path in table_files(experiment, table).values()
]
FIGURES = [
    f"results/{experiment.name}/figures/{figure}.{suffix}"
    for experiment in EXPERIMENTS.values()
    for figure in figures_of(experiment)
    for suffix in ("pdf", "png")
]
