# What a job asks a cluster for. On one machine only `gpu` counts. None of it is a parameter: it changes no result, so a
# change of it runs nothing again.

# Memory (MB) and run time (minutes) of a stage's jobs in a small experiment; a measure's entry has its own, and an experiment
# may name others.
NEEDS = {
    "data": {"mem_mb": 1000, "runtime": 30},
    "train": {"mem_mb": 1500, "runtime": 60},
    "adopt": {"mem_mb": 1000, "runtime": 10},
    "symmetries": {"mem_mb": 2000, "runtime": 30},
    "match": {"mem_mb": 1500, "runtime": 120},
    "merge": {"mem_mb": 1000, "runtime": 10},
} | {
    name: {key: entry.get(key, 60 if key == "runtime" else 1500) for key in ("mem_mb", "runtime")}
    for name, entry in entries("measure").items()
}


def named(stage, wildcards):
    """The name under which an experiment says what jobs need: that of a stage, or of the measure that the wildcard names."""
    return stage or entries("measure")[wildcards.measure].get("resources", wildcards.measure)


# A GPU holds one job at a time (profiles/default); on a cluster that is true of every node, not of them all together.
resource_scopes:
    gpu="local",


def needs(stage, methods=1):
    """Memory and run time of the jobs of a stage or measure: after a failure twice as much is asked for, then three times.
    Time is for each of the methods of a job, one after the other."""

    def need(key, wildcards):
        name = named(stage, wildcards)
        return {**NEEDS[name], **EXPERIMENTS[wildcards.experiment]["resources"].get(name, {})}[key]

    def runtime(wildcards, attempt):
        return attempt * need("runtime", wildcards) * (methods(wildcards) if callable(methods) else methods)

    return {"mem_mb": lambda wildcards, attempt: attempt * need("mem_mb", wildcards), "runtime": runtime}


def travelling(stage=None):
    """Under which name the jobs of a stage share a cluster job with those that they depend on; None for no such name.

    The small measurements of a trial travel together. A stage whose needs the experiment names is not small, so it is
    left out. Snakemake runs the jobs of a group side by side where it can, without a look at the GPU they share: with
    a GPU only those share a job that wait for each other anyhow.
    """

    def group(wildcards):
        name = named(stage, wildcards)
        small = name == "merge" or entries("measure")[name].get("travels", False)
        if GPU:
            return "measure" if name in ("merge", "evaluation") else None
        return "measure" if small and name not in EXPERIMENTS[wildcards.experiment]["resources"] else None

    return group


# The configuration without what it says of resources: what the results depend on.
DECISIVE = {
    **CONFIGURATION.settings,
    "experiments": {
        name: {key: value for key, value in settings.items() if key != "resources"}
        for name, settings in CONFIGURATION.settings["experiments"].items()
    },
}
