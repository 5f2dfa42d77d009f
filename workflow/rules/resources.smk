# What a job asks a cluster for. On one machine only `gpu` counts. None of it is a parameter: it changes no result, so a
# change of it runs nothing again.

# Memory (MB) and run time (minutes) of a stage's jobs in a small experiment; an experiment may name its own.
NEEDS = {
    "data": {"mem_mb": 1000, "runtime": 30},
    "train": {"mem_mb": 1500, "runtime": 60},
    "adopt": {"mem_mb": 1000, "runtime": 10},
    "symmetries": {"mem_mb": 2000, "runtime": 30},
    "match": {"mem_mb": 1500, "runtime": 120},
    "acceleration": {"mem_mb": 1500, "runtime": 60},
    "merge": {"mem_mb": 1000, "runtime": 10},
    "evaluate": {"mem_mb": 1500, "runtime": 30},
    "landscape": {"mem_mb": 1000, "runtime": 60},
    "sharpness": {"mem_mb": 1500, "runtime": 60},
    "analysis": {"mem_mb": 1500, "runtime": 60},
}


# A GPU holds one job at a time (profiles/default); on a cluster that is true of every node, not of them all together.
resource_scopes:
    gpu="local",


def needs(experiment, stage, methods=1):
    """Memory and run time of a stage's jobs, each of so many methods, one after the other: after a failure twice as
    much is asked for, then three times."""
    need = {**NEEDS[stage], **experiment["resources"].get(stage, {})}
    return {
        "mem_mb": lambda wildcards, attempt: attempt * need["mem_mb"],
        "runtime": lambda wildcards, attempt: attempt * methods * need["runtime"],
    }


def group_of(experiment, stage):
    """Under which name the jobs of a stage share a cluster job with those that they depend on; None for no such name.

    The small measurements of a trial travel together. A stage whose needs the experiment names is not small, so it is
    left out. Snakemake runs the jobs of a group side by side where it can, without a look at the GPU they share: with
    a GPU only those share a job that wait for each other anyhow.
    """
    if GPU:
        return "measure" if stage in ("merge", "evaluate") else None
    return None if stage in experiment["resources"] else "measure"


# The configuration without what it says of resources: what the results depend on.
DECISIVE = {
    **config,
    "experiments": {
        name: {key: value for key, value in settings.items() if key != "resources"}
        for name, settings in config["experiments"].items()
    },
}
