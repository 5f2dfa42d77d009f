"""Collect what was measured of an experiment or study into its tables, with summaries over trials for readers."""

from pathlib import Path

from onebasin.machine.jobs import job
from onebasin.storage.files import write_frame
from onebasin.tables import summaries
from onebasin.tables.collect import collect, read_csv, together

FORMATS = {".md": summaries.write_markdown, ".tex": summaries.write_latex, ".html": summaries.write_html}

params = snakemake.params
columns = list(next(iter(params.varied.values()), []))
with job(snakemake.log[0]):
    for path in map(Path, snakemake.output):
        name, sources = path.stem, snakemake.input[path.stem]
        if path.suffix == ".csv":  # which is the first of a table's files
            if params.study:
                parts = {Path(source).parts[-3]: read_csv(source, name) for source in sources}
                table = together(parts, name, params.varied)
                write_frame(table, path)
                table = table.assign(experiment=params.study)
            else:
                table = collect(sources, name, params.methods)
                write_frame(table, path)
            if "words" in params.records[name]:
                summary = summaries.summarise(table, name, columns)
        else:
            FORMATS[path.suffix](summary, name, path, varied=columns)
