"""Measure where a trial's models lie, by every method and for every count: distances, Taylor estimates, alignment."""

import pandas as pd

from onebasin.data import load_data
from onebasin.machine.jobs import computing_job
from onebasin.measures.alignment import alignments
from onebasin.measures.distance import distances
from onebasin.measures.singular import decompose
from onebasin.measures.taylor import taylor_estimates
from onebasin.merging.average import permuted_models
from onebasin.merging.recalibration import Recalibration
from onebasin.models.checkpoints import load_merged, load_models
from onebasin.parameters import one
from onebasin.storage.files import write_sealed
from onebasin.symmetry.permutations import load_permutations
from onebasin.symmetry.spec import load_spec

params = snakemake.params
with computing_job(snakemake.log[0], **params.compute) as device:
    data = load_data(snakemake.input.data, device, params.recipe["data"])
    split = data.split(params.split).first(params.images)
    models = load_models(snakemake.input.models, params.network, device, params.recipe)
    recalibrate = Recalibration(models.network, data.train, {**params.normalization, "method": "recompute"})
    spec = load_spec(snakemake.input.symmetries, params.network)
    parts = [decompose(one(models.weights, model)) for model in range(len(models))]
    files = zip(snakemake.input.permutations, snakemake.input.merged, strict=True)
    outputs = iter(snakemake.output)
    for method in params.methods:
        search = {"method": method, "trial": params.trial}
        tables = {"distance": [], "taylor": [], "alignment": []}
        for count in params.counts:
            found, average = next(files)
            run = {"experiment": params.experiment, "count": count, **search}
            parents = models.first(count)
            permutations = load_permutations(found, spec, parents.seeds, search)
            permuted = permuted_models(parents, spec, permutations)
            merged = load_merged(average, models.network, device, {"models": parents.seeds, **search})
            taylor = taylor_estimates(permuted, split, params.points, recalibrate).assign(split=params.split)
            aligned = alignments(parents, parts[:count], spec, permutations, merged, params.gammas)
            tables["distance"].append(distances(parents, permuted).assign(**run))
            tables["taylor"].append(taylor.assign(**run))
            tables["alignment"].append(aligned.assign(**run))
        for measured in tables.values():
            write_sealed(pd.concat(measured), next(outputs))
