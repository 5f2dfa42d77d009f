# Merging, and measuring what came out. One job covers all counts of a method and trial: each takes seconds.
for experiment in EXPERIMENTS.values():

    rule:
        name:
            f"merge_{experiment.name}"
        input:
            data=f"results/{experiment.name}/data.safetensors",
            symmetries=f"results/{experiment.name}/symmetries.json",
            models=models_of_trial(experiment),
            permutations=of_counts(experiment, "permutations", experiment.counts),
        output:
            merged=of_counts(experiment, "merged", experiment.counts),
        log:
            f"results/{experiment.name}/logs/merge/{{method}}-t{{trial}}.log",
        benchmark:
            f"results/{experiment.name}/benchmarks/merge/{{method}}-t{{trial}}.tsv"
        group:
            group_of(experiment, "merge")
        conda:
            CONDA
        threads: config["threads"]
        resources:
            **needs(experiment, "merge"),
            gpu=GPU,
        params:
            network=experiment["network"],
            made=experiment.made,
            normalization=experiment["normalization"],
            counts=experiment.counts,
            method=lambda wildcards: wildcards.method,
            trial=lambda wildcards: int(wildcards.trial),
            compute=COMPUTE,
            code=code("merge.py", experiment.function_of("network")),
        script:
            "../scripts/merge.py"

    rule:
        name:
            f"evaluate_{experiment.name}"
        input:
            data=f"results/{experiment.name}/data.safetensors",
            symmetries=f"results/{experiment.name}/symmetries.json",
            models=models_of_trial(experiment),
            permutations=of_counts(experiment, "permutations", experiment.counts),
            merged=of_counts(experiment, "merged", experiment.counts),
        output:
            merged=f"results/{experiment.name}/evaluation/{{method}}/t{{trial}}-merged.csv",
            pairwise=f"results/{experiment.name}/evaluation/{{method}}/t{{trial}}-pairwise.csv",
            interpolation=f"results/{experiment.name}/evaluation/{{method}}/t{{trial}}-interpolation.csv",
        log:
            f"results/{experiment.name}/logs/evaluate/{{method}}-t{{trial}}.log",
        benchmark:
            f"results/{experiment.name}/benchmarks/evaluate/{{method}}-t{{trial}}.tsv"
        group:
            group_of(experiment, "evaluate")
        conda:
            CONDA
        threads: config["threads"]
        resources:
            **needs(experiment, "evaluate"),
            gpu=GPU,
        params:
            experiment=experiment.name,
            network=experiment["network"],
            made=experiment.made,
            normalization=experiment["normalization"],
            counts=experiment.counts,
            points=experiment["interpolation"]["points"],
            method=lambda wildcards: wildcards.method,
            trial=lambda wildcards: int(wildcards.trial),
            compute=COMPUTE,
            code=code("evaluate.py", experiment.function_of("network")),
        script:
            "../scripts/evaluate.py"

    if experiment.plane_count:

        rule:
            name:
                f"landscape_{experiment.name}"
            input:
                data=f"results/{experiment.name}/data.safetensors",
                symmetries=f"results/{experiment.name}/symmetries.json",
                models=expand(
                    "results/{name}/models/seed-{seed}.safetensors",
                    name=experiment.name,
                    seed=experiment.models_of(experiment["landscape"]["trial"], experiment.plane_count),
                ),
                permutations="results/{name}/permutations/{{method}}/n{count}-t{trial}.safetensors".format(
                    name=experiment.name, count=experiment.plane_count, trial=experiment["landscape"]["trial"]
                ),
            output:
                f"results/{experiment.name}/landscape/{{method}}.csv",
            log:
                f"results/{experiment.name}/logs/landscape/{{method}}.log",
            benchmark:
                f"results/{experiment.name}/benchmarks/landscape/{{method}}.tsv"
            conda:
                CONDA
            threads: config["threads"]
            resources:
                **needs(experiment, "landscape"),
                gpu=GPU,
            params:
                experiment=experiment.name,
                network=experiment["network"],
                made=experiment.made,
                normalization=experiment["normalization"],
                landscape=experiment["landscape"],
                method=lambda wildcards: wildcards.method,
                compute=COMPUTE,
                code=code("landscape.py", experiment.function_of("network")),
            script:
                "../scripts/landscape.py"
