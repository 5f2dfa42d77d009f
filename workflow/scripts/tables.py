"""Collect the jobs' measurements into one table a kind, with a summary over trials in Markdown and LaTeX."""

from onebasin import tables
from onebasin.jobs import job

with job(snakemake.log[0], **snakemake.params.compute):
    for name, parts in snakemake.input.items():
        table = tables.collect(parts, name, snakemake.params.methods)
        tables.write_csv(table, snakemake.output[f"{name}_csv"])
        if f"{name}_md" in snakemake.output.keys():
            summary = tables.summarise(table, name)
            tables.write_markdown(summary, name, snakemake.output[f"{name}_md"])
            tables.write_latex(summary, name, snakemake.output[f"{name}_tex"])
            tables.write_html(summary, name, snakemake.output[f"{name}_html"])
