"""Judge the claims by the tables of all experiments."""

import pandas as pd

from onebasin import claims
from onebasin.machine.jobs import job
from onebasin.storage.files import write_frame
from onebasin.tables.collect import read_csv

with job(snakemake.log[0]):
    tables = {
        name: pd.concat([read_csv(path, name) for path in paths], ignore_index=True)
        for name, paths in snakemake.input.items()
        if name != "rules" and paths  # an experiment without STE-MM has no acceleration table
    }
    verdicts = claims.evaluate(claims.load(snakemake.input.rules), tables, snakemake.params.experiments)
    write_frame(verdicts, snakemake.output.csv)
    claims.write_markdown(verdicts, snakemake.output.md)
    claims.write_rst(verdicts, snakemake.output.rst)
