"""Measure the sharpness at the merged models of a method and trial; list the parents' beside them."""

import pandas as pd

from onebasin.data import load_data
from onebasin.files import write_frame
from onebasin.jobs import computing_job
from onebasin.models import load_merged, new_network
from onebasin.sharpness import measure_sharpness

params = snakemake.params
with computing_job(snakemake.log[0], **params.compute) as device:
    split = params.sharpness["split"]
    data = load_data(snakemake.input.data, device)
    images = data.split(split).first(params.sharpness["images"])
    network = new_network(params.network, data.input_shape, data.classes, "unused").to(device)
    parents = [pd.read_csv(snakemake.input.parents), pd.read_csv(snakemake.input.parents_top_eigenvalue)]
    tables = ([], [])
    for (count, seeds), path in zip(params.models_of_count.items(), snakemake.input.merged, strict=True):
        run = {"experiment": params.experiment, "method": params.method, "count": count, "trial": params.trial}
        merged = load_merged(path, network, device)
        key = (params.seed, "sharpness", params.method, count, params.trial)
        measured = measure_sharpness(network, merged, images, params.sharpness["probes"], *key)
        for table, part, of_parents in zip(tables, measured, parents, strict=True):
            own = of_parents[of_parents["model"].isin(seeds)]
            table.append(pd.concat([part.assign(model="merged", split=split), own]).assign(**run))
    for name, table in zip(["sharpness", "top_eigenvalue"], tables, strict=True):
        write_frame(pd.concat(table), snakemake.output[name])
