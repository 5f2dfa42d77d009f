# Matching: the permutations of N models, by every method. A joint search depends on N; one that treats model by model
# does not, and is made once a trial, for the largest count: the first N permutations are those of N models.
# the rule's name, the pattern of its experiments and their methods, and the counts that a job answers
SEARCHES = [("match", searches(False), ["{n}"])]
SEARCHES += [
    (f"match_each{end}", searches(True, names), counts)
    for end, names, counts in alike(lambda experiment: [tuple(range(2, experiment.largest + 1))])
]

for rule_name, experiments, counts in SEARCHES:

    rule:
        name:
            rule_name
        input:
            data="results/{experiment}/data.safetensors",
            symmetries="results/{experiment}/symmetries.json",
            models=trial_models,
        output:
            permutations=[
                f"results/{{experiment}}/permutations/{{method}}/n{count}-t{{trial}}.safetensors" for count in counts
            ],
            timing=f"results/{{experiment}}/timing/{{method}}/n{counts[-1]}-t{{trial}}.csv",
        log:
            f"results/{{experiment}}/logs/match/{{method}}-n{counts[-1]}-t{{trial}}.log",
        benchmark:
            f"results/{{experiment}}/benchmarks/match/{{method}}-n{counts[-1]}-t{{trial}}.tsv"
        wildcard_constraints:
            experiment=experiments,
        conda:
            CONDA
        threads: config["threads"]
        resources:
            **needs("match"),
            gpu=GPU,
        params:
            experiment=lambda wildcards: wildcards.experiment,
            seed=of(lambda experiment: experiment["seed"]),
            recipe=of(lambda experiment: experiment.recipe),
            method=lambda wildcards: wildcards.method,
            function=lambda wildcards: EXPERIMENTS[wildcards.experiment].function_of("method", wildcards.method),
            settings=lambda wildcards: EXPERIMENTS[wildcards.experiment].method_settings(wildcards.method),
            trial=lambda wildcards: int(wildcards.trial),
            compute=COMPUTE,
            code=lambda wildcards: code(
                "match.py",
                *EXPERIMENTS[wildcards.experiment].functions,
                EXPERIMENTS[wildcards.experiment].function_of("method", wildcards.method),
            ),
        script:
            "../scripts/match.py"


# Merging: the averages of the permuted models, of several methods in one job.
MADE = "results/{{experiment}}/{kind}/{method}/n{count}-t{{trial}}.safetensors"

for end, names, found in alike(
    lambda e: [(tuple(methods), tuple(e.counts)) for methods in e.blocks_of_methods.values()]
):
    methods, counts = found

    rule:
        name:
            f"merge{end}"
        input:
            data="results/{experiment}/data.safetensors",
            symmetries="results/{experiment}/symmetries.json",
            models=trial_models,
            permutations=expand(MADE, kind="permutations", method=methods, count=counts),
        output:
            merged=expand(MADE, kind="merged", method=methods, count=counts),
        log:
            f"results/{{experiment}}/logs/merge/{methods[0]}-t{{trial}}.log",
        benchmark:
            f"results/{{experiment}}/benchmarks/merge/{methods[0]}-t{{trial}}.tsv"
        wildcard_constraints:
            experiment=any_of(names),
        group:
            travelling("merge")
        conda:
            CONDA
        threads: config["threads"]
        resources:
            **needs("merge", len(methods)),
            gpu=GPU,
        params:
            recipe=of(lambda experiment: experiment.recipe),
            normalization=of(lambda experiment: experiment["normalization"]),
            counts=counts,
            methods=methods,
            trial=lambda wildcards: int(wildcards.trial),
            compute=COMPUTE,
            code=of(lambda experiment: code("merge.py", *experiment.functions)),
        script:
            "../scripts/merge.py"
