# Models: trained here, one by one or several seeds in one process where the configuration gives a range of them, or trained
# elsewhere and adopted; and what may be permuted in their network.


# the rule's name, the pattern of its experiments, and the seeds of a job
TRAININGS = [
    (
        "train",
        only("models|history", lambda e: [f"seed-{block[0]}" for block in e.blocks if len(block) == 1]),
        ["{seed}"],
    )
]
TRAININGS += [
    (f"train_{block[0]}_{block[-1]}", any_of(names), block)
    for _, names, block in alike(lambda e: [block for block in e.blocks if len(block) > 1])
]

for rule_name, experiments, block in TRAININGS:

    rule:
        name:
            rule_name
        input:
            data="results/{experiment}/data.safetensors",
        output:
            models=[f"results/{{experiment}}/models/seed-{seed}.safetensors" for seed in block],
            history=[f"results/{{experiment}}/history/seed-{seed}.csv" for seed in block],
        log:
            f"results/{{experiment}}/logs/train/{block[0]}.log",
        benchmark:
            f"results/{{experiment}}/benchmarks/train/{block[0]}.tsv"
        wildcard_constraints:
            experiment=experiments,
        conda:
            CONDA
        threads: config["threads"]
        resources:
            **needs("train"),
            gpu=GPU,
        params:
            experiment=lambda wildcards: wildcards.experiment,
            recipe=of(lambda experiment: experiment.recipe),
            # a function of the output is no reason to run again: a seed does not depend on its company
            seeds=lambda wildcards, output: [int(Path(path).stem.removeprefix("seed-")) for path in output.models],
            compute=COMPUTE,
            code=of(lambda experiment: code("train.py", *experiment.functions)),
        script:
            "../scripts/train.py"


# Models that were trained elsewhere: their checkpoints are read, checked against the network, and kept as the
# experiment's own. From there on nothing tells them from models that were trained here.
rule adopt:
    input:
        data="results/{experiment}/data.safetensors",
        checkpoint=lambda wildcards: EXPERIMENTS[wildcards.experiment].checkpoints[int(wildcards.seed)],
    output:
        "results/{experiment}/models/seed-{seed}.safetensors",
    log:
        "results/{experiment}/logs/adopt/{seed}.log",
    benchmark:
        "results/{experiment}/benchmarks/adopt/{seed}.tsv"
    wildcard_constraints:
        experiment=only("models", lambda experiment: [f"seed-{seed}" for seed in experiment.checkpoints]),
    conda:
        CONDA
    threads: config["threads"]
    resources:
        **needs("adopt"),
        gpu=0,
    params:
        recipe=of(lambda experiment: experiment.recipe),
        seed=lambda wildcards: int(wildcards.seed),
        compute=ON_CPU,
        code=of(lambda experiment: code("adopt.py", *experiment.functions)),
    script:
        "../scripts/adopt.py"


rule symmetries:
    input:
        data="results/{experiment}/data.safetensors",
    output:
        "results/{experiment}/symmetries.json",
    log:
        "results/{experiment}/logs/symmetries.log",
    benchmark:
        "results/{experiment}/benchmarks/symmetries.tsv"
    conda:
        CONDA
    threads: config["threads"]
    resources:
        **needs("symmetries"),
        gpu=0,
    params:
        data=of(lambda experiment: experiment.data),
        network=of(lambda experiment: experiment["network"]),
        compute=ON_CPU,
        code=of(lambda experiment: code("symmetries.py", *experiment.functions)),
    script:
        "../scripts/symmetries.py"
