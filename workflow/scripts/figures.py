"""Draw the figures of an experiment or study from its tables."""

from pathlib import Path

from onebasin.figures.style import save, without_nats
from onebasin.machine.jobs import job
from onebasin.registry import CROSS_ENTROPY, resolve
from onebasin.tables.collect import read_csv

params = snakemake.params
columns = list(next(iter(params.varied.values()), []))
with job(snakemake.log[0]):
    tables = {Path(path).stem: read_csv(path, Path(path).stem, columns) for path in snakemake.input}
    places = iter(snakemake.output)
    for name, needed in params.tables.items():
        figure = resolve("figure", name)({table: tables[table] for table in needed})
        if params.objective != CROSS_ENTROPY:
            figure = without_nats(figure)
        for path in (next(places), next(places)):  # PDF and PNG
            save(figure, path)
