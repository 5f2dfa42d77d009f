# Data: archives downloaded, and each experiment's data set made, once.


# The archives of a data set, once for all experiments, and where there is a network. That they are there, whole, is all
# that the output says: neither their place nor a new program for fetching them is a reason to do anything again.
rule download:
    output:
        "results/downloads/{archives}.json",
    log:
        "results/downloads/logs/{archives}.log",
    benchmark:
        "results/downloads/benchmarks/{archives}.tsv"
    wildcard_constraints:
        archives=any_of(DOWNLOADS),
    localrule: True
    conda:
        CONDA
    params:
        data=lambda wildcards: wildcards.archives,
        place=lambda wildcards, output: DOWNLOADS[wildcards.archives],
    script:
        "../scripts/download.py"


rule data:
    input:
        of(lambda experiment: expand("results/downloads/{name}.json", name=experiment.archives or [])),
    output:
        "results/{experiment}/data.safetensors",
    log:
        "results/{experiment}/logs/data.log",
    benchmark:
        "results/{experiment}/benchmarks/data.tsv"
    conda:
        CONDA
    threads: config["threads"]
    resources:
        **needs("data"),
        gpu=0,
    params:
        data=of(lambda experiment: experiment.data),
        place=place_of_archives,
        compute=ON_CPU,
        code=of(lambda experiment: code("data.py", experiment.function_of("data"))),
    script:
        "../scripts/data.py"
