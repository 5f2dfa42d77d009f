"""Measure the sharpness at the merged models of a method and trial; list the parents' beside them."""

from io import StringIO

import pandas as pd

from onebasin.data import load_data
from onebasin.files import read_sealed, write_sealed
from onebasin.jobs import computing_job
from onebasin.models import load_merged, new_network
from onebasin.sharpness.measure import Sharpness

params = snakemake.params
with computing_job(snakemake.log[0], **params.compute) as device:
    split = params.sharpness["split"]
    data = load_data(snakemake.input.data, device, params.made["data"])
    network = new_network(params.network, data.input_shape, data.classes, "unused").to(device)
    images = data.split(split).first(params.sharpness["images"])
    sharpness = Sharpness(network, images, params.sharpness["probes"])
    parents = [pd.read_csv(StringIO(read_sealed(path))) for path in snakemake.input.parents]
    tables = [[] for _ in parents]
    search = {"method": params.method, "trial": params.trial}
    for (count, seeds), path in zip(params.models_of_count.items(), snakemake.input.merged, strict=True):
        run = {"experiment": params.experiment, "count": count, **search}
        merged = load_merged(path, network, device, {"models": seeds, **search})
        measured = sharpness.at(merged, params.seed, "sharpness", params.method, count, params.trial)
        for table, part, of_parents in zip(tables, measured, parents, strict=True):
            own = of_parents[of_parents["model"].isin(seeds)]
            table.append(pd.concat([part.assign(model="merged", split=split), own]).assign(**run))
    for output, table in zip(snakemake.output, tables, strict=True):
        write_sealed(pd.concat(table), output)
