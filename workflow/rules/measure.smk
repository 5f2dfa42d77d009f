# Measures: one rule a scope. A job measures one thing of all models, of a trial's, or of what a block of methods found in a
# trial, and writes all tables of it into one file.


for scope, place in {
    "experiment": "{measure}",
    "trial": "{measure}/t{trial}",
    "search": "{measure}/{block}-t{trial}",
}.items():

    rule:
        name:
            f"measure_{scope}"
        input:
            unpack(opened),
        output:
            f"results/{{experiment}}/measured/{place}.csv",
        log:
            f"results/{{experiment}}/logs/measure/{place}.log",
        benchmark:
            f"results/{{experiment}}/benchmarks/measure/{place}.tsv"
        wildcard_constraints:
            measure=any_of(name for name, entry in MEASURES.items() if entry["scope"] == scope),
            block=any_of(dict.fromkeys(block for e in EXPERIMENTS.values() for block in e.blocks_of_methods)),
        group:
            travelling()
        conda:
            CONDA
        threads: config["threads"]
        resources:
            **needs(None, lambda wildcards: len(methods_of(wildcards))),
            gpu=GPU,
        params:
            run=run_of,
            methods=methods_of,
            function=lambda wildcards: MEASURES[wildcards.measure]["function"],
            settings=lambda wildcards: EXPERIMENTS[wildcards.experiment].settings_of(wildcards.measure),
            compute=COMPUTE,
            code=measure_code,
        script:
            "../scripts/measure.py"
