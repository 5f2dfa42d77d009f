# Tables, figures, claims, and the report that holds them. Light jobs, run where Snakemake runs; all tables of an experiment
# or study are made by one, all figures drawn by one, as most of such a job is its start.
LIGHT = {"runtime": 10, "gpu": 0}
SUBJECTS = {name: name for name in (*EXPERIMENTS, *STUDIES)}

for end, names, tables in alike(lambda subject: [tables_of(subject)], SUBJECTS):

    rule:
        name:
            f"tables{end}"
        input:
            unpack(measured),
        output:
            list(table_files(tables)),
        log:
            "results/{subject}/logs/tables.log",
        benchmark:
            "results/{subject}/benchmarks/tables.tsv"
        wildcard_constraints:
            subject=any_of(names),
        localrule: True
        conda:
            CONDA
        threads: 1
        resources:
            **LIGHT,
            mem_mb=500,
        params:
            study=lambda wildcards: wildcards.subject if wildcards.subject in STUDIES else None,
            varied=varied,
            methods=lambda wildcards: (
                list(EXPERIMENTS[wildcards.subject]["methods"]) if wildcards.subject in EXPERIMENTS else []
            ),
            records={name: RECORDS[name] for name in tables},
            code=code("tables.py"),
        script:
            "../scripts/tables.py"


for end, names, figures in alike(
    lambda subject: [figures_of(subject)], {name: name for name in SUBJECTS if figures_of(name)}
):
    drawn = list(dict.fromkeys(table for name in figures for table in FIGURES[name]["tables"]))

    rule:
        name:
            f"figures{end}"
        input:
            expand("results/{{subject}}/tables/{table}.csv", table=drawn),
        output:
            list(figure_files(figures)),
        log:
            "results/{subject}/logs/figures.log",
        benchmark:
            "results/{subject}/benchmarks/figures.tsv"
        wildcard_constraints:
            subject=any_of(names),
        localrule: True
        conda:
            CONDA
        threads: 1
        resources:
            **LIGHT,
            mem_mb=700,
        params:
            tables={name: FIGURES[name]["tables"] for name in figures},
            objective=objective,
            varied=varied,
            code=code("figures.py", *[FIGURES[name]["function"] for name in figures]),
        script:
            "../scripts/figures.py"


TABLES = [path for subject in SUBJECTS for path in flagless(table_files(tables_of(subject)), subject)]
DRAWN = [path for subject in SUBJECTS for path in flagless(figure_files(figures_of(subject)), subject)]


rule claims:
    input:
        tables=[path for path in TABLES if path.endswith(".csv")],
        rules=list(CONFIGURATION.claims),
    output:
        csv=report(
            "results/claims.csv", caption="../report/claims.rst", category="01. Claims", labels={"table": "claims"}
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
        **LIGHT,
        mem_mb=500,
    params:
        subjects=list(CONFIGURATION.claims.values()),
        studies={name: study.columns for name, study in STUDIES.items()},
        code=code("claims.py", *[entry["function"] for entry in entries("effect").values()]),
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
            category="04. Configuration and versions",
            labels={"table": "versions and machine"},
        ),
        report(
            "results/config.yaml",
            caption="../report/config.rst",
            category="04. Configuration and versions",
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
        **LIGHT,
        mem_mb=500,
    params:
        config=DECISIVE,
        compute=COMPUTE,
        code=code("provenance.py"),
    script:
        "../scripts/provenance.py"
