# What may be permuted in an experiment's network: traced and proved once, before anything is searched.
for experiment in EXPERIMENTS.values():

    rule:
        name:
            f"symmetries_{experiment.name}"
        input:
            data=f"results/{experiment.name}/data.safetensors",
        output:
            f"results/{experiment.name}/symmetries.json",
        log:
            f"results/{experiment.name}/logs/symmetries.log",
        benchmark:
            f"results/{experiment.name}/benchmarks/symmetries.tsv"
        conda:
            CONDA
        threads: config["threads"]
        resources:
            **needs(experiment, "symmetries"),
            gpu=0,
        params:
            data=experiment.data,
            network=experiment["network"],
            compute={**COMPUTE, "device": "cpu"},
            code=code("symmetries.py", experiment.function_of("network")),
        script:
            "../scripts/symmetries.py"
