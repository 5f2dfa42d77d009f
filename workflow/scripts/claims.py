"""Judge the claims by the tables of all experiments and studies."""

from pathlib import Path

import pandas as pd

from onebasin import claims
from onebasin.machine.jobs import job
from onebasin.storage.files import write_frame
from onebasin.tables.collect import read_csv

params = snakemake.params
with job(snakemake.log[0]):
    rules = [claims.load(path) for path in snakemake.input.get("rules", [])]
    needed = {table for own in rules for table in own.tables}
    tables, studies = {}, {name: (columns, {}) for name, columns in params.studies.items()}
    for path in map(Path, snakemake.input.tables):
        subject, name = path.parts[-3], path.stem
        if name in needed and subject in studies:
            studies[subject][1][name] = read_csv(path, name, studies[subject][0])
        elif name in needed:
            tables.setdefault(name, []).append(read_csv(path, name))
    tables = {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    verdicts = claims.judge(zip(rules, params.subjects, strict=True), tables, studies)
    write_frame(verdicts, snakemake.output.csv)
    claims.write_markdown(verdicts, snakemake.output.md)
    claims.write_rst(verdicts, snakemake.output.rst)
