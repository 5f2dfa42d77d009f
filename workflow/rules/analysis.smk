# Why matching works: measurements at the models and on the lines between them. Cheap ones share a job; what needs a
# search of its own has one a trial.
for experiment, block, methods in BLOCKS:

    rule:
        name:
            f"geometry_{block}"
        input:
            data=f"results/{experiment.name}/data.safetensors",
            symmetries=f"results/{experiment.name}/symmetries.json",
            models=models_of_trial(experiment),
            permutations=of_methods(experiment, "permutations", methods),
            merged=of_methods(experiment, "merged", methods),
        output:
            [
                f"results/{experiment.name}/analysis/{method}/t{{trial}}-{table}.csv"
                for method in methods
                for table in ("distance", "taylor", "alignment")
            ],
        log:
            f"results/{experiment.name}/logs/analysis/{methods[0]}-t{{trial}}.log",
        benchmark:
            f"results/{experiment.name}/benchmarks/analysis/{methods[0]}-t{{trial}}.tsv"
        group:
            group_of(experiment, "analysis")
        conda:
            CONDA
        threads: config["threads"]
        resources:
            **needs(experiment, "analysis", len(methods)),
            gpu=GPU,
        params:
            experiment=experiment.name,
            network=experiment["network"],
            recipe=experiment.recipe,
            normalization=experiment["normalization"],
            counts=experiment.counts,
            points=experiment["interpolation"]["points"],
            split=experiment["analysis"]["split"],
            images=experiment["analysis"]["images"],
            gammas=experiment["analysis"]["gammas"],
            methods=methods,
            trial=lambda wildcards: int(wildcards.trial),
            compute=COMPUTE,
            code=code("geometry.py", experiment.function_of("network")),
        script:
            "../scripts/geometry.py"


for experiment in EXPERIMENTS.values():

    rule:
        name:
            f"spectra_{experiment.name}"
        input:
            data=f"results/{experiment.name}/data.safetensors",
            models=[
                f"results/{experiment.name}/models/seed-{seed}.safetensors"
                for trial in experiment.trials
                for seed in experiment.models_of(trial)
            ],
        output:
            singular_values=f"results/{experiment.name}/analysis/singular_values.csv",
            responses=f"results/{experiment.name}/analysis/responses.csv",
        log:
            f"results/{experiment.name}/logs/analysis/spectra.log",
        benchmark:
            f"results/{experiment.name}/benchmarks/analysis/spectra.tsv"
        conda:
            CONDA
        threads: config["threads"]
        resources:
            **needs(experiment, "analysis"),
            gpu=GPU,
        params:
            experiment=experiment.name,
            network=experiment["network"],
            recipe=experiment.recipe,
            trials=[trial for trial in experiment.trials for _ in experiment.models_of(trial)],
            split=experiment["analysis"]["split"],
            images=experiment["analysis"]["images"],
            compute=COMPUTE,
            code=code("spectra.py", experiment.function_of("network")),
        script:
            "../scripts/spectra.py"

    if experiment.anchored_counts:
        methods = {
            anchored: [name for name in experiment["methods"] if experiment.is_anchored(name) == anchored]
            for anchored in (True, False)
        }

        rule:
            name:
                f"three_models_{experiment.name}"
            input:
                data=f"results/{experiment.name}/data.safetensors",
                symmetries=f"results/{experiment.name}/symmetries.json",
                models=models_of_trial(experiment),
                measured=expand(
                    "results/{name}/evaluation/{method}/t{{trial}}-pairwise.csv",
                    name=experiment.name,
                    method=methods[True],
                ),
            output:
                f"results/{experiment.name}/analysis/three_models/t{{trial}}.csv",
            log:
                f"results/{experiment.name}/logs/analysis/three_models-t{{trial}}.log",
            benchmark:
                f"results/{experiment.name}/benchmarks/analysis/three_models-t{{trial}}.tsv"
            conda:
                CONDA
            threads: config["threads"]
            resources:
                **needs(experiment, "analysis"),
                gpu=GPU,
            params:
                experiment=experiment.name,
                seed=experiment["seed"],
                network=experiment["network"],
                recipe=experiment.recipe,
                normalization=experiment["normalization"],
                counts=experiment.anchored_counts,
                points=experiment["interpolation"]["points"],
                methods={
                    name: (experiment.function_of("method", name), experiment.method_settings(name))
                    for name in methods[False]
                },
                trial=lambda wildcards: int(wildcards.trial),
                compute=COMPUTE,
                code=code(
                    "three_models.py",
                    experiment.function_of("network"),
                    *[experiment.function_of("method", name) for name in methods[False]],
                ),
            script:
                "../scripts/three_models.py"

    if "weight_matching" in experiment["methods"]:

        rule:
            name:
                f"truncation_{experiment.name}"
            input:
                data=f"results/{experiment.name}/data.safetensors",
                symmetries=f"results/{experiment.name}/symmetries.json",
                models=models_of_trial(experiment),
            output:
                f"results/{experiment.name}/analysis/truncation/t{{trial}}.csv",
            log:
                f"results/{experiment.name}/logs/analysis/truncation-t{{trial}}.log",
            benchmark:
                f"results/{experiment.name}/benchmarks/analysis/truncation-t{{trial}}.tsv"
            conda:
                CONDA
            threads: config["threads"]
            resources:
                **needs(experiment, "analysis"),
                gpu=GPU,
            params:
                experiment=experiment.name,
                seed=experiment["seed"],
                network=experiment["network"],
                recipe=experiment.recipe,
                normalization=experiment["normalization"],
                gammas=experiment["analysis"]["truncation"],
                points=experiment["interpolation"]["points"],
                settings=experiment.method_settings("weight_matching"),
                trial=lambda wildcards: int(wildcards.trial),
                compute=COMPUTE,
                code=code("truncation.py", experiment.function_of("network")),
            script:
                "../scripts/truncation.py"
