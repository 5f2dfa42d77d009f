"""Measure a trial's merged models, and the lines between the permuted models, by every method and for every count."""

import pandas as pd

from onebasin.data import load_data
from onebasin.machine.jobs import computing_job
from onebasin.measures.merged import evaluate_merged, predict
from onebasin.measures.pairwise import interpolation_curves, pairwise_barriers
from onebasin.merging.average import permuted_models
from onebasin.merging.recalibration import Recalibration
from onebasin.models.checkpoints import load_merged, load_models
from onebasin.storage.files import write_sealed
from onebasin.symmetry.permutations import load_permutations
from onebasin.symmetry.spec import load_spec

params = snakemake.params
with computing_job(snakemake.log[0], **params.compute) as device:
    data = load_data(snakemake.input.data, device, params.recipe["data"])
    models = load_models(snakemake.input.models, params.network, device, params.recipe)
    recalibrate = Recalibration(models.network, data.train, params.normalization)
    spec = load_spec(snakemake.input.symmetries, params.network)
    predictions = predict(models, data)
    files = zip(snakemake.input.permutations, snakemake.input.merged, strict=True)
    outputs = iter(snakemake.output)
    for method in params.methods:
        search = {"method": method, "trial": params.trial}
        tables = {"merged": [], "pairwise": [], "interpolation": []}
        for count in params.counts:
            found, average = next(files)
            run = {"experiment": params.experiment, "count": count, **search}
            parents = models.first(count)
            permuted = permuted_models(parents, spec, load_permutations(found, spec, parents.seeds, search))
            curves = interpolation_curves(permuted, data, params.points, recalibrate)
            merged = load_merged(average, models.network, device, {"models": parents.seeds, **search})
            tables["merged"].append(evaluate_merged(parents, merged, data, predictions).assign(**run))
            tables["pairwise"].append(pairwise_barriers(curves).assign(**run))
            tables["interpolation"].append(curves.assign(**run))
        for parts in tables.values():
            write_sealed(pd.concat(parts), next(outputs))
