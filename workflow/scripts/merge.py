"""Average the permuted models of a trial, for every count."""

from onebasin.data import load_data
from onebasin.jobs import computing_job
from onebasin.merging import merge, save_merged
from onebasin.models import load_models
from onebasin.normalization import Settle
from onebasin.symmetry.permutations import load_permutations
from onebasin.symmetry.spec import load_spec

params = snakemake.params
with computing_job(snakemake.log[0], **params.compute) as device:
    models = load_models(snakemake.input.models, params.network, device)
    settle = Settle(models.network, load_data(snakemake.input.data, device).train, params.normalization)
    spec = load_spec(snakemake.input.symmetries)
    for count, source, target in zip(params.counts, snakemake.input.permutations, snakemake.output.merged, strict=True):
        chosen = models.first(count)
        merged = merge(chosen, spec, load_permutations(source, spec, chosen.seeds), settle)
        save_merged(target, merged, chosen, params.method, params.trial)
