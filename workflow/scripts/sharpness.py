"""Measure the sharpness at a trial's merged models, method by method; list the parents' beside them."""

from io import StringIO

import pandas as pd

from onebasin.data import load_data
from onebasin.machine.jobs import computing_job
from onebasin.measures.sharpness.measure import Sharpness
from onebasin.models.checkpoints import load_merged
from onebasin.networks.build import new_network
from onebasin.storage.files import read_sealed, write_sealed

params = snakemake.params
with computing_job(snakemake.log[0], **params.compute) as device:
    split = params.sharpness["split"]
    data = load_data(snakemake.input.data, device, params.recipe["data"])
    network = new_network(params.network, data.input_shape, data.classes, "unused").to(device)
    images = data.split(split).first(params.sharpness["images"])
    sharpness = Sharpness(network, images, params.sharpness["probes"])
    parents = [pd.read_csv(StringIO(read_sealed(path))) for path in snakemake.input.parents]
    averages, outputs = iter(snakemake.input.merged), iter(snakemake.output)
    for method in params.methods:
        search = {"method": method, "trial": params.trial}
        tables = [[] for _ in parents]
        for count, seeds in params.models_of_count.items():
            run = {"experiment": params.experiment, "count": count, **search}
            merged = load_merged(next(averages), network, device, {"models": seeds, **search})
            measured = sharpness.at(merged, params.seed, "sharpness", method, count, params.trial)
            for table, part, of_parents in zip(tables, measured, parents, strict=True):
                own = of_parents[of_parents["model"].isin(seeds)]
                table.append(pd.concat([part.assign(model="merged", split=split), own]).assign(**run))
        for table in tables:
            write_sealed(pd.concat(table), next(outputs))
