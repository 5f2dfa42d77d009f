# Models that were trained elsewhere: their checkpoints are read, checked against the network, and kept as the
# experiment's own. From there on nothing tells them from models that were trained here.
for experiment in EXPERIMENTS.values():
    if experiment.checkpoints:

        rule:
            name:
                f"adopt_{experiment.name}"
            input:
                data=f"results/{experiment.name}/data.safetensors",
                checkpoint=lambda wildcards, experiment=experiment: experiment.checkpoints[int(wildcards.seed)],
            output:
                f"results/{experiment.name}/models/seed-{{seed}}.safetensors",
            log:
                f"results/{experiment.name}/logs/adopt/{{seed}}.log",
            benchmark:
                f"results/{experiment.name}/benchmarks/adopt/{{seed}}.tsv"
            wildcard_constraints:
                seed="|".join(map(str, experiment.checkpoints)),
            conda:
                CONDA
            threads: config["threads"]
            resources:
                **needs(experiment, "adopt"),
                gpu=0,
            params:
                network=experiment["network"],
                recipe=experiment.recipe,
                seed=lambda wildcards: int(wildcards.seed),
                compute={**COMPUTE, "device": "cpu"},
                code=code("adopt.py", experiment.function_of("network")),
            script:
                "../scripts/adopt.py"
