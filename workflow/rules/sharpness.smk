# Sharpness: traces (by layer, too) and top eigenvalues of the Hessian, at the merged models and their parents. Permuting a model
# leaves both as they are, so the parents' are measured once a trial.
for experiment in EXPERIMENTS.values():

    rule:
        name:
            f"sharpness_parents_{experiment.name}"
        input:
            data=f"results/{experiment.name}/data.safetensors",
            models=models_of_trial(experiment),
        output:
            sharpness=f"results/{experiment.name}/sharpness/parents/t{{trial}}.csv",
            top_eigenvalue=f"results/{experiment.name}/sharpness/parents/t{{trial}}-top_eigenvalue.csv",
            layers=f"results/{experiment.name}/sharpness/parents/t{{trial}}-layers.csv",
        log:
            f"results/{experiment.name}/logs/sharpness/parents-t{{trial}}.log",
        benchmark:
            f"results/{experiment.name}/benchmarks/sharpness/parents-t{{trial}}.tsv"
        group:
            group_of(experiment, "sharpness")
        conda:
            CONDA
        threads: config["threads"]
        resources:
            **needs(experiment, "sharpness"),
            gpu=GPU,
        params:
            seed=experiment["seed"],
            network=experiment["network"],
            recipe=experiment.recipe,
            sharpness=experiment["sharpness"],
            compute=COMPUTE,
            code=code("sharpness_parents.py", experiment.function_of("network")),
        script:
            "../scripts/sharpness_parents.py"


for experiment, block, methods in BLOCKS:

    rule:
        name:
            f"sharpness_{block}"
        input:
            data=f"results/{experiment.name}/data.safetensors",
            merged=of_methods(experiment, "merged", methods),
            parents=[
                f"results/{experiment.name}/sharpness/parents/t{{trial}}.csv",
                f"results/{experiment.name}/sharpness/parents/t{{trial}}-top_eigenvalue.csv",
                f"results/{experiment.name}/sharpness/parents/t{{trial}}-layers.csv",
            ],
        output:
            [
                f"results/{experiment.name}/sharpness/{method}/t{{trial}}{table}.csv"
                for method in methods
                for table in ("", "-top_eigenvalue", "-layers")
            ],
        log:
            f"results/{experiment.name}/logs/sharpness/{methods[0]}-t{{trial}}.log",
        benchmark:
            f"results/{experiment.name}/benchmarks/sharpness/{methods[0]}-t{{trial}}.tsv"
        group:
            group_of(experiment, "sharpness")
        conda:
            CONDA
        threads: config["threads"]
        resources:
            **needs(experiment, "sharpness", len(methods)),
            gpu=GPU,
        params:
            experiment=experiment.name,
            seed=experiment["seed"],
            network=experiment["network"],
            recipe=experiment.recipe,
            sharpness=experiment["sharpness"],
            models_of_count=lambda wildcards, experiment=experiment: {
                count: experiment.models_of(int(wildcards.trial), count) for count in experiment.counts
            },
            methods=methods,
            trial=lambda wildcards: int(wildcards.trial),
            compute=COMPUTE,
            code=code("sharpness.py", experiment.function_of("network")),
        script:
            "../scripts/sharpness.py"
