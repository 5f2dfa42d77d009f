# Tables, figures, claims, and the report that holds them. Light jobs, run where Snakemake runs; all tables of an experiment
# or study are made by one, all figures drawn by one, as most of such a job is its start.
RECORDS = {table: record for entry in MEASURES.values() for table, record in entry.get("tables", {}).items()}
FIGURES = entries("figure")
LIGHT = {"runtime": 10, "gpu": 0}


def said(words, kind, name, **where):
    """The words of an entry beside a file in the report: what Snakemake reads there has to be a file."""
    file = Path(".snakemake/captions") / f"{kind}-{name}.rst"
    if not file.is_file() or file.read_text(encoding="utf-8") != words:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(words, encoding="utf-8")
    return {"caption": str(file.absolute()), "subcategory": "{subject}", **where}


def table_files(tables):
    """The files of tables: the CSV, and a summary for readers where there are words for it."""
    for name in tables:
        record, place = RECORDS[name], f"results/{{subject}}/tables/{name}"
        yield f"{place}.csv"
        if "words" in record:
            yield from (f"{place}.md", f"{place}.tex")
            group, labels = record.get("group", "3. Tables"), {"table": name.replace("_", " ")}
            yield report(f"{place}.html", **said(record["words"], "table", name, category=group, labels=labels))


def figure_files(figures):
    """The files of figures; the report shows the PNG."""
    for name in figures:
        entry, place = FIGURES[name], f"results/{{subject}}/figures/{name}"
        yield f"{place}.pdf"
        group, labels = entry.get("group", "2. Figures"), {"figure": entry["title"]}
        yield report(f"{place}.png", **said(entry["words"], "figure", name, category=group, labels=labels))


def tables_of(subject):
    """The tables of an experiment; of a study those that all its experiments have."""
    if subject not in STUDIES:
        return tuple(EXPERIMENTS[subject].tables)
    experiments = [EXPERIMENTS[name] for name in STUDIES[subject].varied]
    return tuple(table for table in experiments[0].tables if all(table in other.tables for other in experiments))


def figures_of(subject):
    """The figures whose tables an experiment or a study has."""
    kind = "studies" if subject in STUDIES else "experiments"
    tables = set(tables_of(subject))
    return tuple(n for n, e in FIGURES.items() if set(e["tables"]) <= tables and e.get("of", "experiments") == kind)


def measured(wildcards):
    """What the tables of an experiment or study are made of: by table."""
    if wildcards.subject in STUDIES:
        varied = STUDIES[wildcards.subject].varied
        return {
            table: [f"results/{name}/tables/{table}.csv" for name in varied] for table in tables_of(wildcards.subject)
        }
    experiment = EXPERIMENTS[wildcards.subject]
    return {table: parts(experiment, measure) for table, measure in experiment.tables.items()}


def varied(wildcards):
    """What a study's experiments differ in; nothing for an experiment."""
    return STUDIES[wildcards.subject].varied if wildcards.subject in STUDIES else {}


SUBJECTS = {name: name for name in (*EXPERIMENTS, *STUDIES)}

for end, subjects, tables in alike(lambda subject: [tables_of(subject)], SUBJECTS):

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
            subject=subjects,
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


for end, subjects, figures in alike(
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
            subject=subjects,
        localrule: True
        conda:
            CONDA
        threads: 1
        resources:
            **LIGHT,
            mem_mb=700,
        params:
            tables={name: FIGURES[name]["tables"] for name in figures},
            varied=varied,
            code=code("figures.py", *[FIGURES[name]["function"] for name in figures]),
        script:
            "../scripts/figures.py"


def flagless(files, subject):
    """The files of a rule as targets, for one of its subjects."""
    return [str(file).format(subject=subject) for file in files]


TABLES = [path for subject in SUBJECTS for path in flagless(table_files(tables_of(subject)), subject)]
DRAWN = [path for subject in SUBJECTS for path in flagless(figure_files(figures_of(subject)), subject)]


rule claims:
    input:
        tables=[path for path in TABLES if path.endswith(".csv")],
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
        **LIGHT,
        mem_mb=500,
    params:
        experiments=list(EXPERIMENTS),
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
        **LIGHT,
        mem_mb=500,
    params:
        config=DECISIVE,
        compute=COMPUTE,
        code=code("provenance.py"),
    script:
        "../scripts/provenance.py"
