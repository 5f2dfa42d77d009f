"""Collect the jobs' measurements of one kind into a table, with summaries over trials for readers."""

from onebasin import summaries
from onebasin.files import write_frame
from onebasin.jobs import job
from onebasin.tables import collect

FORMATS = {"md": summaries.write_markdown, "tex": summaries.write_latex, "html": summaries.write_html}

name, output = snakemake.params.table, dict(snakemake.output.items())
with job(snakemake.log[0]):
    table = collect(snakemake.input, name, snakemake.params.methods)
    write_frame(table, output.pop("csv"))
    for suffix, path in output.items():
        FORMATS[suffix](summaries.summarise(table, name), name, path)
