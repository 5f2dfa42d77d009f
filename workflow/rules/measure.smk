# Measures: one rule a scope. A job measures one thing of all models, of a trial's, or of what a block of methods found in a
# trial, and writes all tables of it into one file.
MEASURES = entries("measure")


def parts(experiment, measure, trial=None):
    """The files that a measure fills in an experiment; those of one trial, if given."""
    place = f"results/{experiment.name}/measured/{measure}"
    trials = experiment.trials_of(measure) if trial is None else [trial]
    files = {
        "experiment": [f"{place}.csv"],
        "trial": [f"{place}/t{number}.csv" for number in trials],
        "search": [f"{place}/{block}-t{number}.csv" for block in experiment.blocks_of_methods for number in trials],
        "training": expand("results/{name}/history/seed-{seed}.csv", name=experiment.name, seed=experiment["seeds"]),
        "matching": [
            f"results/{experiment.name}/timing/{method}/n{count}-t{number}.csv"
            for method in experiment["methods"]
            for number in trials
            for count in experiment.searched_counts(method)
        ],
    }
    return files[MEASURES[measure]["scope"]]


def methods_of(wildcards):
    """The methods that a job measures, one after the other."""
    return EXPERIMENTS[wildcards.experiment].blocks_of_methods[wildcards.block] if wildcards.get("block") else [""]


def opened(wildcards):
    """What a measure may open, by what it holds."""
    experiment, entry = EXPERIMENTS[wildcards.experiment], MEASURES[wildcards.measure]
    counts, opens = experiment.counts_of(wildcards.measure), entry.get("opens", [])
    files = {"data": f"results/{experiment.name}/data.safetensors"}
    if "symmetries" in opens:
        files["symmetries"] = f"results/{experiment.name}/symmetries.json"
    if "models" in opens:
        files["models"] = [
            MODEL.format(experiment=experiment.name, seed=seed)
            for seeds in seeds_of(wildcards).values()
            for seed in seeds
        ]
    for kind in {"permutations", "merged"} & set(opens):
        files[kind] = [
            f"results/{experiment.name}/{kind}/{method}/n{count}-t{wildcards.trial}.safetensors"
            for method in methods_of(wildcards)
            for count in counts
        ]
    if "reads" in entry:
        files["reads"] = parts(experiment, entry["reads"], int(wildcards.trial))
    return files


def seeds_of(wildcards):
    """The models that a measure is about, by trial: of the largest count that it is about."""
    experiment = EXPERIMENTS[wildcards.experiment]
    trials = [int(wildcards.trial)] if wildcards.get("trial") else experiment.trials
    return {trial: experiment.models_of(trial, max(experiment.counts_of(wildcards.measure))) for trial in trials}


def measure_code(wildcards):
    experiment, entry = EXPERIMENTS[wildcards.experiment], MEASURES[wildcards.measure]
    searches = [function for function, _ in experiment.searches_of(wildcards.measure).values()]
    return code("measure.py", experiment.function_of("network"), entry["function"], *searches)


for scope, place in {
    "experiment": "{measure}",
    "trial": "{measure}/t{trial}",
    "search": "{measure}/{block}-t{trial}",
}.items():

    rule:
        name:
            f"measure_{scope}"
        input:
            unpack(opened),
        output:
            f"results/{{experiment}}/measured/{place}.csv",
        log:
            f"results/{{experiment}}/logs/measure/{place}.log",
        benchmark:
            f"results/{{experiment}}/benchmarks/measure/{place}.tsv"
        wildcard_constraints:
            measure=any_of(name for name, entry in MEASURES.items() if entry["scope"] == scope),
            block=any_of(dict.fromkeys(block for e in EXPERIMENTS.values() for block in e.blocks_of_methods)),
        group:
            travelling()
        conda:
            CONDA
        threads: config["threads"]
        resources:
            **needs(None, lambda wildcards: len(methods_of(wildcards))),
            gpu=GPU,
        params:
            run=lambda wildcards: {
                "experiment": wildcards.experiment,
                "root": EXPERIMENTS[wildcards.experiment]["seed"],
                "recipe": EXPERIMENTS[wildcards.experiment].recipe,
                # a measure that permutes nothing combines nothing either
                "normalization": (
                    EXPERIMENTS[wildcards.experiment]["normalization"]
                    if "symmetries" in MEASURES[wildcards.measure].get("opens", [])
                    else {}
                ),
                "counts": EXPERIMENTS[wildcards.experiment].counts_of(wildcards.measure),
                "seeds": seeds_of(wildcards),
                "searched": EXPERIMENTS[wildcards.experiment].searches_of(wildcards.measure),
                "trial": int(wildcards.get("trial", -1)),
            },
            methods=methods_of,
            function=lambda wildcards: MEASURES[wildcards.measure]["function"],
            settings=lambda wildcards: EXPERIMENTS[wildcards.experiment].settings_of(wildcards.measure),
            compute=COMPUTE,
            code=measure_code,
        script:
            "../scripts/measure.py"
