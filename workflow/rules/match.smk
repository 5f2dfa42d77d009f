# Matching: the permutations of N models, by every method. A joint search depends on N; one that treats model by model
# does not, and is made once a trial, for the largest count: the first N permutations are those of N models.
for experiment in EXPERIMENTS.values():
    for method in experiment["methods"]:
        if experiment.is_model_by_model(method):
            counts = range(2, experiment.largest + 1)
        else:
            counts = ["{n}"]

        rule:
            name:
                f"match_{experiment.name}_{method}"
            input:
                data=f"results/{experiment.name}/data.safetensors",
                symmetries=f"results/{experiment.name}/symmetries.json",
                models=models_of_trial(experiment),
            output:
                permutations=expand(
                    "results/{name}/permutations/{method}/n{count}-t{{trial}}.safetensors",
                    name=experiment.name,
                    method=method,
                    count=counts,
                ),
                timing=f"results/{experiment.name}/timing/{method}/n{counts[-1]}-t{{trial}}.csv",
            log:
                f"results/{experiment.name}/logs/match/{method}-n{counts[-1]}-t{{trial}}.log",
            benchmark:
                f"results/{experiment.name}/benchmarks/match/{method}-n{counts[-1]}-t{{trial}}.tsv"
            conda:
                CONDA
            threads: config["threads"]
            resources:
                **needs(experiment, "match"),
                gpu=GPU,
            params:
                experiment=experiment.name,
                seed=experiment["seed"],
                network=experiment["network"],
                recipe=experiment.recipe,
                method=method,
                function=experiment.function_of("method", method),
                settings=experiment.method_settings(method),
                trial=lambda wildcards: int(wildcards.trial),
                compute=COMPUTE,
                code=code("match.py", *[experiment.function_of(kind, method) for kind in ("network", "method")]),
            script:
                "../scripts/match.py"


# The warm start of the assignments, held against the same search without it (claim C5).
for experiment in EXPERIMENTS.values():
    if "ste_mm" in experiment["methods"]:

        rule:
            name:
                f"acceleration_{experiment.name}"
            input:
                data=f"results/{experiment.name}/data.safetensors",
                symmetries=f"results/{experiment.name}/symmetries.json",
                models=models_of_trial(experiment),
            output:
                f"results/{experiment.name}/acceleration/t{{trial}}.csv",
            log:
                f"results/{experiment.name}/logs/acceleration/t{{trial}}.log",
            benchmark:
                f"results/{experiment.name}/benchmarks/acceleration/t{{trial}}.tsv"
            conda:
                CONDA
            threads: config["threads"]
            resources:
                **needs(experiment, "acceleration"),
                gpu=GPU,
            params:
                experiment=experiment.name,
                seed=experiment["seed"],
                network=experiment["network"],
                recipe=experiment.recipe,
                settings={**experiment.method_settings("ste_mm"), **experiment["acceleration"]},
                trial=lambda wildcards: int(wildcards.trial),
                compute=COMPUTE,
                code=code("acceleration.py", experiment.function_of("network")),
            script:
                "../scripts/acceleration.py"
