# Tables, figures, claims, and the report that holds them. Light jobs, run where Snakemake runs.
SUMMARISED = ["merged", "pairwise", "sharpness", "top_eigenvalue", "timing", "acceleration"]
LONG = ["interpolation", "landscape"]


def parts_of(experiment):
    """The jobs' measurements that make up the tables of an experiment, by table."""
    pattern = f"results/{experiment.name}/"
    runs = {"method": experiment["methods"], "trial": experiment.trials}
    parts = {
        **{
            table: expand(pattern + "evaluation/{method}/t{trial}-" + table + ".csv", **runs)
            for table in ("merged", "pairwise", "interpolation")
        },
        "sharpness": expand(pattern + "sharpness/{method}/t{trial}.csv", **runs),
        "top_eigenvalue": expand(pattern + "sharpness/{method}/t{trial}-top_eigenvalue.csv", **runs),
        "timing": [
            f"{pattern}timing/{method}/n{count}-t{trial}.csv"
            for method in experiment["methods"]
            for trial in experiment.trials
            for count in ([experiment.largest] if experiment.is_model_by_model(method) else experiment.counts)
        ],
    }
    if experiment.plane_count:
        parts["landscape"] = expand(pattern + "landscape/{method}.csv", method=experiment["methods"])
    if "ste_mm" in experiment["methods"]:
        parts["acceleration"] = expand(pattern + "acceleration/t{trial}.csv", trial=experiment.trials)
    return parts


def tables_of(experiment):
    """The table files of an experiment, keyed `<table>_<suffix>`: all as CSV, summaries for readers as well."""
    return {
        f"{table}_{suffix}": f"results/{experiment.name}/tables/{table}.{suffix}"
        for table in parts_of(experiment)
        for suffix in (["csv", "md", "tex", "html"] if table in SUMMARISED else ["csv"])
    }


def in_report(experiment, key, path):
    """The file marked for the report, if it is a summary that a browser shows."""
    table, _, suffix = key.rpartition("_")
    if suffix != "html":
        return path
    return report(
        path,
        caption=f"../report/table_{table}.rst",
        category="3. Tables",
        subcategory=experiment.name,
        labels={"table": table.replace("_", " ")},
    )


def figures_of(experiment):
    """The figures whose tables the experiment has."""
    return [name for name, facts in builtins("figure").items() if set(facts["tables"]) <= set(parts_of(experiment))]


CHECKPOINTS = [
    f"results/{experiment.name}/models/seed-{seed}.safetensors"
    for experiment in EXPERIMENTS.values()
    for seed in experiment["seeds"]
]
TABLES = [path for experiment in EXPERIMENTS.values() for path in tables_of(experiment).values()]
FIGURES = [
    f"results/{experiment.name}/figures/{figure}.{suffix}"
    for experiment in EXPERIMENTS.values()
    for figure in figures_of(experiment)
    for suffix in ("pdf", "png")
]

for experiment in EXPERIMENTS.values():

    rule:
        name:
            f"tables_{experiment.name}"
        input:
            **parts_of(experiment),
        output:
            **{key: in_report(experiment, key, path) for key, path in tables_of(experiment).items()},
        log:
            f"results/{experiment.name}/logs/tables.log",
        benchmark:
            f"results/{experiment.name}/benchmarks/tables.tsv"
        conda:
            CONDA
        localrule: True
        threads: 1
        resources:
            mem_mb=500,
            runtime=10,
            gpu=0,
        params:
            methods=list(experiment["methods"]),
            compute=COMPUTE,
            code=code("tables.py"),
        script:
            "../scripts/tables.py"

    for figure in figures_of(experiment):

        rule:
            name:
                f"figure_{experiment.name}_{figure}"
            input:
                **{
                    table: f"results/{experiment.name}/tables/{table}.csv"
                    for table in builtins("figure")[figure]["tables"]
                },
            output:
                f"results/{experiment.name}/figures/{figure}.pdf",
                report(
                    f"results/{experiment.name}/figures/{figure}.png",
                    caption=f"../report/{figure}.rst",
                    category="2. Figures",
                    subcategory=experiment.name,
                    labels={"figure": builtins("figure")[figure]["title"]},
                ),
            log:
                f"results/{experiment.name}/logs/figures/{figure}.log",
            benchmark:
                f"results/{experiment.name}/benchmarks/figures/{figure}.tsv"
            conda:
                CONDA
            localrule: True
            threads: 1
            resources:
                mem_mb=700,
                runtime=10,
                gpu=0,
            params:
                figure=figure,
                compute=COMPUTE,
                code=code("figure.py", builtins("figure")[figure]["function"]),
            script:
                "../scripts/figure.py"


rule claims:
    input:
        rules=config["claims"],
        **{
            table: [path for e in EXPERIMENTS.values() if (path := tables_of(e).get(f"{table}_csv"))]
            for table in ("merged", "pairwise", "sharpness", "acceleration")
        },
    output:
        csv=report("results/claims.csv", caption="../report/claims.rst", category="1. Claims", labels={"table": "claims"}),
        md="results/claims.md",
        rst="results/claims.rst",
    log:
        "results/logs/claims.log",
    benchmark:
        "results/benchmarks/claims.tsv"
    conda:
        CONDA
    localrule: True
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
        gpu=0,
    params:
        experiments=list(EXPERIMENTS),
        compute=COMPUTE,
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
    conda:
        CONDA
    localrule: True
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
        gpu=0,
    params:
        config=config,
        compute=COMPUTE,
        code=code("provenance.py"),
    script:
        "../scripts/provenance.py"
