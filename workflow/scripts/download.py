"""Make sure that the archives of a data set are there, whole; download those that are not."""

import json

from onebasin.data.downloads import fetch
from onebasin.machine.jobs import job
from onebasin.storage.files import write_text

params = snakemake.params
with job(snakemake.log[0]):
    archives = fetch(params.data, **params.place).values()
    sums = {archive.path: archive.md5 for archive in archives}
    write_text(snakemake.output[0], json.dumps(sums, indent=1) + "\n")
