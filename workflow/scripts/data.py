"""Make an experiment's data set, once for all its jobs."""

from onebasin.data import make_data, save_data
from onebasin.machine.jobs import computing_job

params = snakemake.params
with computing_job(snakemake.log[0], **params.compute):
    save_data(snakemake.output[0], make_data({**params.data, **params.place}), recipe=params.data)
