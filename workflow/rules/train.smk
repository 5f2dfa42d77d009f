# Data, made once, and training: several seeds in one process, a file a seed. Which seeds train together is planned in
# common.smk.


# The archives of a data set, once for all experiments, and where there is a network. That they are there, whole, is all
# that the output says: neither their place nor a new program for fetching them is a reason to do anything again.
rule download:
    output:
        "results/downloads/{archives}.json",
    log:
        "results/downloads/logs/{archives}.log",
    benchmark:
        "results/downloads/benchmarks/{archives}.tsv"
    localrule: True
    conda:
        CONDA
    params:
        data=lambda wildcards: wildcards.archives,
        place=lambda wildcards, output: DOWNLOADS[wildcards.archives],
    script:
        "../scripts/download.py"


for experiment in EXPERIMENTS.values():

    rule:
        name:
            f"data_{experiment.name}"
        input:
            expand("results/downloads/{name}.json", name=experiment.archives or []),
        output:
            f"results/{experiment.name}/data.safetensors",
        log:
            f"results/{experiment.name}/logs/data.log",
        benchmark:
            f"results/{experiment.name}/benchmarks/data.tsv"
        conda:
            CONDA
        threads: config["threads"]
        resources:
            **needs(experiment, "data"),
            gpu=0,
        params:
            data=experiment.data,
            place=place_of(experiment),
            compute={**COMPUTE, "device": "cpu"},
            code=code("data.py", experiment.function_of("data")),
        script:
            "../scripts/data.py"

    for stack in STACKS.get(experiment.name, []):

        rule:
            name:
                f"train_{experiment.name}_{stack[0]}"
            input:
                data=f"results/{experiment.name}/data.safetensors",
            output:
                models=expand("results/{name}/models/seed-{seed}.safetensors", name=experiment.name, seed=stack),
                history=expand("results/{name}/history/seed-{seed}.csv", name=experiment.name, seed=stack),
            log:
                f"results/{experiment.name}/logs/train/{stack[0]}.log",
            benchmark:
                f"results/{experiment.name}/benchmarks/train/{stack[0]}.tsv"
            conda:
                CONDA
            threads: config["threads"]
            resources:
                **needs(experiment, "train"),
                gpu=GPU,
            params:
                experiment=experiment.name,
                recipe=experiment.recipe,
                # a function of the output is no reason to run again: a seed does not depend on its company
                seeds=lambda wildcards, output: [int(Path(path).stem.removeprefix("seed-")) for path in output.models],
                compute=COMPUTE,
                code=code("train.py", experiment.function_of("network")),
            script:
                "../scripts/train.py"
