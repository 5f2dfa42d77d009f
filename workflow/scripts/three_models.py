"""Measure the barriers between models that were matched to a trial's first one, by every method and for every count."""

import pandas as pd

from onebasin.data import load_data
from onebasin.machine.jobs import computing_job
from onebasin.measures.anchored import anchored_barriers, match_to_anchor, of_counts, without_anchor
from onebasin.merging.recalibration import Recalibration
from onebasin.models.checkpoints import load_models
from onebasin.registry import resolve
from onebasin.storage.files import write_sealed
from onebasin.symmetry.spec import load_spec
from onebasin.tables.collect import collect

params = snakemake.params
with computing_job(snakemake.log[0], **params.compute) as device:
    data = load_data(snakemake.input.data, device, params.recipe["data"])
    models = load_models(snakemake.input.models, params.network, device, params.recipe)
    recalibrate = Recalibration(models.network, data.train, params.normalization)
    spec = load_spec(snakemake.input.symmetries, params.network)
    tables = []
    if snakemake.input.measured:  # by methods that leave the first model as it is
        tables.append(without_anchor(collect(snakemake.input.measured, "pairwise"), models.seeds[0]))
    for method, (function, settings) in params.methods.items():
        key = (params.seed, "three_models", method, params.trial)
        found = match_to_anchor(resolve("method", function), models, spec, data, settings, *key)
        barriers = of_counts(
            anchored_barriers(models, spec, found, data, params.points, recalibrate), models, params.counts
        )
        tables.append(barriers.assign(experiment=params.experiment, method=method, trial=params.trial))
    write_sealed(pd.concat(tables), snakemake.output[0])
