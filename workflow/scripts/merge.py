"""Average the permuted models of a trial, by every method and for every count."""

from itertools import product

from onebasin.data import load_data
from onebasin.machine.jobs import computing_job
from onebasin.merging.average import merge, save_merged
from onebasin.merging.recalibration import Recalibration
from onebasin.models.checkpoints import load_models
from onebasin.symmetry.alignment import load_alignment
from onebasin.symmetry.spec import load_spec

params = snakemake.params
with computing_job(snakemake.log[0], **params.compute) as device:
    models = load_models(snakemake.input.models, params.recipe["network"], device, params.recipe)
    data = load_data(snakemake.input.data, device, params.recipe["data"])
    recalibrate = Recalibration(models.network, data.train, params.normalization)
    spec = load_spec(snakemake.input.symmetries, params.recipe["network"])
    files = zip(snakemake.input.permutations, snakemake.output.merged, strict=True)
    for (method, count), (source, target) in zip(product(params.methods, params.counts), files, strict=True):
        chosen = models.first(count)
        permutations = load_alignment(source, spec, chosen.seeds, {"method": method, "trial": params.trial})
        save_merged(target, merge(chosen, spec, permutations, recalibrate), chosen, method, params.trial)
