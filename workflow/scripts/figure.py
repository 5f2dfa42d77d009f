"""Draw one figure of an experiment from its tables."""

from onebasin.figures.style import save
from onebasin.jobs import job
from onebasin.registry import resolve
from onebasin.tables import read_csv

with job(snakemake.log[0]):
    tables = {name: read_csv(path, name) for name, path in snakemake.input.items()}
    figure = resolve("figure", snakemake.params.figure)(tables)
    for path in snakemake.output:
        save(figure, path)
