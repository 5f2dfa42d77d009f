"""Measure the sharpness at the models of a trial, before any merging."""

import pandas as pd

from onebasin.data import load_data
from onebasin.machine.jobs import computing_job
from onebasin.measures.sharpness.measure import Sharpness
from onebasin.models.checkpoints import load_models
from onebasin.storage.files import write_sealed

params = snakemake.params
with computing_job(snakemake.log[0], **params.compute) as device:
    split = params.sharpness["split"]
    data = load_data(snakemake.input.data, device, params.recipe["data"])
    models = load_models(snakemake.input.models, params.network, device, params.recipe)
    images = data.split(split).first(params.sharpness["images"])
    sharpness = Sharpness(models.network, images, params.sharpness["probes"])
    measured = [sharpness.at(models[i], params.seed, "sharpness", seed) for i, seed in enumerate(models.seeds)]
    for output, parts in zip(snakemake.output, zip(*measured, strict=True), strict=True):
        parts = [part.assign(model=seed, split=split) for seed, part in zip(models.seeds, parts, strict=True)]
        write_sealed(pd.concat(parts), output)
