# Tables, figures, claims, and the report that holds them. Light jobs, run where Snakemake runs; all tables of an experiment
# are made by one, all figures drawn by one, as most of such a job is its start.
for experiment in EXPERIMENTS.values():

    rule:
        name:
            f"tables_{experiment.name}"
        input:
            **parts_of(experiment),
        output:
            [path for table in parts_of(experiment) for path in table_files(experiment, table).values()],
        log:
            f"results/{experiment.name}/logs/tables.log",
        benchmark:
            f"results/{experiment.name}/benchmarks/tables.tsv"
        localrule: True
        conda:
            CONDA
        threads: 1
        resources:
            mem_mb=500,
            runtime=10,
            gpu=0,
        params:
            methods=list(experiment["methods"]),
            code=code("tables.py"),
        script:
            "../scripts/tables.py"

    rule:
        name:
            f"figures_{experiment.name}"
        input:
            [f"results/{experiment.name}/tables/{table}.csv" for table in drawn_tables(experiment)],
        output:
            [path for figure in figures_of(experiment) for path in figure_files(experiment, figure)],
        log:
            f"results/{experiment.name}/logs/figures.log",
        benchmark:
            f"results/{experiment.name}/benchmarks/figures.tsv"
        localrule: True
        conda:
            CONDA
        threads: 1
        resources:
            mem_mb=700,
            runtime=10,
            gpu=0,
        params:
            tables={figure: builtins("figure")[figure]["tables"] for figure in figures_of(experiment)},
            code=code("figures.py", *[builtins("figure")[figure]["function"] for figure in figures_of(experiment)]),
        script:
            "../scripts/figures.py"


# The tables that claims are judged by.
JUDGED = ["merged", "pairwise", "sharpness", "acceleration"]
JUDGED += ["distance", "taylor", "singular_values", "alignment", "three_models"]


rule claims:
    input:
        **{
            table: [f"results/{e.name}/tables/{table}.csv" for e in EXPERIMENTS.values() if table in parts_of(e)]
            for table in JUDGED
        },
        rules=config["claims"],
    output:
        csv=report(
            "results/claims.csv", caption="../report/claims.rst", category="1. Claims", labels={"table": "claims"}
        ),
        md="results/claims.md",
        rst="results/claims.rst",
    log:
        "results/logs/claims.log",
    benchmark:
        "results/benchmarks/claims.tsv"
    localrule: True
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
        gpu=0,
    params:
        experiments=list(EXPERIMENTS),
        code=code("claims.py"),
    script:
        "../scripts/claims.py"


rule provenance:
    input:
        TABLES,
        "results/claims.csv",
    output:
        report(
            "results/provenance.csv",
            caption="../report/provenance.rst",
            category="4. Configuration and versions",
            labels={"table": "versions and machine"},
        ),
        report(
            "results/config.yaml",
            caption="../report/config.rst",
            category="4. Configuration and versions",
            labels={"table": "configuration"},
        ),
    log:
        "results/logs/provenance.log",
    benchmark:
        "results/benchmarks/provenance.tsv"
    localrule: True
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
        gpu=0,
    params:
        config=DECISIVE,
        compute=COMPUTE,
        code=code("provenance.py"),
    script:
        "../scripts/provenance.py"
