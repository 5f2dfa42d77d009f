# Tables, figures, claims, and the report that holds them. Light jobs, run where Snakemake runs.
for experiment in EXPERIMENTS.values():
    for table, parts in parts_of(experiment).items():

        rule:
            name:
                f"table_{experiment.name}_{table}"
            input:
                parts,
            output:
                **table_files(experiment, table),
            log:
                f"results/{experiment.name}/logs/tables/{table}.log",
            benchmark:
                f"results/{experiment.name}/benchmarks/tables/{table}.tsv"
            localrule: True
            conda:
                CONDA
            threads: 1
            resources:
                mem_mb=500,
                runtime=10,
                gpu=0,
            params:
                table=table,
                methods=list(experiment["methods"]),
                code=code("table.py"),
            script:
                "../scripts/table.py"

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
                    category=WHY if builtins("figure")[figure].get("analysis") else "2. Figures",
                    subcategory=experiment.name,
                    labels={"figure": builtins("figure")[figure]["title"]},
                ),
            log:
                f"results/{experiment.name}/logs/figures/{figure}.log",
            benchmark:
                f"results/{experiment.name}/benchmarks/figures/{figure}.tsv"
            localrule: True
            conda:
                CONDA
            threads: 1
            resources:
                mem_mb=700,
                runtime=10,
                gpu=0,
            params:
                figure=figure,
                code=code("figure.py", builtins("figure")[figure]["function"]),
            script:
                "../scripts/figure.py"


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
