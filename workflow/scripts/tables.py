"""Collect the jobs' measurements of an experiment into its tables, with summaries over trials for readers."""

from pathlib import Path

from onebasin.machine.jobs import job
from onebasin.storage.files import write_frame
from onebasin.tables import summaries
from onebasin.tables.collect import collect

FORMATS = {".md": summaries.write_markdown, ".tex": summaries.write_latex, ".html": summaries.write_html}

with job(snakemake.log[0]):
    for path in map(Path, snakemake.output):
        if path.suffix == ".csv":  # which is the first of a table's files
            table = collect(snakemake.input[path.stem], path.stem, snakemake.params.methods)
            write_frame(table, path)
        else:
            FORMATS[path.suffix](summaries.summarise(table, path.stem), path.stem, path)
