"""Collect the jobs' measurements into one table a kind, with summaries over trials for readers."""

from onebasin import summaries
from onebasin.files import write_frame
from onebasin.jobs import job
from onebasin.tables import collect

FORMATS = {"md": summaries.write_markdown, "tex": summaries.write_latex, "html": summaries.write_html}

output = snakemake.output
with job(snakemake.log[0], **snakemake.params.compute):
    for name, parts in snakemake.input.items():
        table = collect(parts, name, snakemake.params.methods)
        write_frame(table, output[f"{name}_csv"])
        for suffix, write in FORMATS.items():
            if f"{name}_{suffix}" in dict(output.items()):
                write(summaries.summarise(table, name), name, output[f"{name}_{suffix}"])
