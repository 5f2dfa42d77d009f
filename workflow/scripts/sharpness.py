"""Measure the sharpness at the merged models of a method and trial; list the parents' beside them."""

from io import StringIO

import pandas as pd

from onebasin.data import load_data
from onebasin.files import read_sealed, write_sealed
from onebasin.jobs import computing_job
from onebasin.models import load_merged, new_network
from onebasin.sharpness import measure_sharpness

params = snakemake.params
with computing_job(snakemake.log[0], **params.compute) as device:
    split = params.sharpness["split"]
    data = load_data(snakemake.input.data, device, params.made["data"])
    images = data.split(split).first(params.sharpness["images"])
    network = new_network(params.network, data.input_shape, data.classes, "unused").to(device)
    measured_before = (snakemake.input.parents, snakemake.input.parents_top_eigenvalue)
    parents = [pd.read_csv(StringIO(read_sealed(path))) for path in measured_before]
    tables = ([], [])
    search = {"method": params.method, "trial": params.trial}
    for (count, seeds), path in zip(params.models_of_count.items(), snakemake.input.merged, strict=True):
        run = {"experiment": params.experiment, "count": count, **search}
        merged = load_merged(path, network, device, {"models": seeds, **search})
        key = (params.seed, "sharpness", params.method, count, params.trial)
        measured = measure_sharpness(network, merged, images, params.sharpness["probes"], *key)
        for table, part, of_parents in zip(tables, measured, parents, strict=True):
            own = of_parents[of_parents["model"].isin(seeds)]
            table.append(pd.concat([part.assign(model="merged", split=split), own]).assign(**run))
    for name, table in zip(["sharpness", "top_eigenvalue"], tables, strict=True):
        write_sealed(pd.concat(table), snakemake.output[name])
