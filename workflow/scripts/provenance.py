"""Write the configuration as it was used, and the versions and machine that the results come from."""

import yaml

from onebasin.machine.jobs import job
from onebasin.machine.provenance import provenance
from onebasin.storage.files import write_frame, write_text

with job(snakemake.log[0]):
    write_frame(provenance(**snakemake.params.compute), snakemake.output[0])
    write_text(snakemake.output[1], yaml.safe_dump(snakemake.params.config, sort_keys=False))
