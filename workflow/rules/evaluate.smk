# Merging, and measuring what came out. A job covers all counts and a block of methods of a trial: each takes seconds.
for experiment, block, methods in BLOCKS:

    rule:
        name:
            f"merge_{block}"
        input:
            data=f"results/{experiment.name}/data.safetensors",
            symmetries=f"results/{experiment.name}/symmetries.json",
            models=models_of_trial(experiment),
            permutations=of_methods(experiment, "permutations", methods),
        output:
            merged=of_methods(experiment, "merged", methods),
        log:
            f"results/{experiment.name}/logs/merge/{methods[0]}-t{{trial}}.log",
        benchmark:
            f"results/{experiment.name}/benchmarks/merge/{methods[0]}-t{{trial}}.tsv"
        group:
            group_of(experiment, "merge")
        conda:
            CONDA
        threads: config["threads"]
        resources:
            **needs(experiment, "merge", len(methods)),
            gpu=GPU,
        params:
            network=experiment["network"],
            recipe=experiment.recipe,
            normalization=experiment["normalization"],
            counts=experiment.counts,
            methods=methods,
            trial=lambda wildcards: int(wildcards.trial),
            compute=COMPUTE,
            code=code("merge.py", experiment.function_of("network")),
        script:
            "../scripts/merge.py"

    rule:
        name:
            f"evaluate_{block}"
        input:
            data=f"results/{experiment.name}/data.safetensors",
            symmetries=f"results/{experiment.name}/symmetries.json",
            models=models_of_trial(experiment),
            permutations=of_methods(experiment, "permutations", methods),
            merged=of_methods(experiment, "merged", methods),
        output:
            [
                f"results/{experiment.name}/evaluation/{method}/t{{trial}}-{table}.csv"
                for method in methods
                for table in ("merged", "pairwise", "interpolation")
            ],
        log:
            f"results/{experiment.name}/logs/evaluate/{methods[0]}-t{{trial}}.log",
        benchmark:
            f"results/{experiment.name}/benchmarks/evaluate/{methods[0]}-t{{trial}}.tsv"
        group:
            group_of(experiment, "evaluate")
        conda:
            CONDA
        threads: config["threads"]
        resources:
            **needs(experiment, "evaluate", len(methods)),
            gpu=GPU,
        params:
            experiment=experiment.name,
            network=experiment["network"],
            recipe=experiment.recipe,
            normalization=experiment["normalization"],
            counts=experiment.counts,
            points=experiment["interpolation"]["points"],
            methods=methods,
            trial=lambda wildcards: int(wildcards.trial),
            compute=COMPUTE,
            code=code("evaluate.py", experiment.function_of("network")),
        script:
            "../scripts/evaluate.py"

    if experiment.plane_count:

        rule:
            name:
                f"landscape_{block}"
            input:
                data=f"results/{experiment.name}/data.safetensors",
                symmetries=f"results/{experiment.name}/symmetries.json",
                models=expand(
                    "results/{name}/models/seed-{seed}.safetensors",
                    name=experiment.name,
                    seed=experiment.models_of(experiment["landscape"]["trial"], experiment.plane_count),
                ),
                permutations=expand(
                    "results/{name}/permutations/{method}/n{count}-t{trial}.safetensors",
                    name=experiment.name,
                    method=methods,
                    count=experiment.plane_count,
                    trial=experiment["landscape"]["trial"],
                ),
            output:
                expand("results/{name}/landscape/{method}.csv", name=experiment.name, method=methods),
            log:
                f"results/{experiment.name}/logs/landscape/{methods[0]}.log",
            benchmark:
                f"results/{experiment.name}/benchmarks/landscape/{methods[0]}.tsv"
            conda:
                CONDA
            threads: config["threads"]
            resources:
                **needs(experiment, "landscape", len(methods)),
                gpu=GPU,
            params:
                experiment=experiment.name,
                network=experiment["network"],
                recipe=experiment.recipe,
                normalization=experiment["normalization"],
                landscape=experiment["landscape"],
                methods=methods,
                compute=COMPUTE,
                code=code("landscape.py", experiment.function_of("network")),
            script:
                "../scripts/landscape.py"
