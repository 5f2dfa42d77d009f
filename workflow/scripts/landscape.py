"""Measure the loss on the plane through the first three permuted models of a trial, by every method."""

from onebasin.data import load_data
from onebasin.machine.jobs import computing_job
from onebasin.measures.landscape import landscape
from onebasin.merging.average import permuted_models
from onebasin.merging.recalibration import Recalibration
from onebasin.models.checkpoints import load_models
from onebasin.storage.files import write_sealed
from onebasin.symmetry.permutations import load_permutations
from onebasin.symmetry.spec import load_spec

params = snakemake.params
settings = params.landscape
with computing_job(snakemake.log[0], **params.compute) as device:
    data = load_data(snakemake.input.data, device, params.recipe["data"])
    models = load_models(snakemake.input.models, params.network, device, params.recipe)
    spec = load_spec(snakemake.input.symmetries, params.network)
    recalibrate = Recalibration(models.network, data.train, {**params.normalization, "method": "recompute"})
    files = zip(snakemake.input.permutations, snakemake.output, strict=True)
    for method, (source, target) in zip(params.methods, files, strict=True):
        search = {"method": method, "trial": settings["trial"]}
        permuted = permuted_models(models, spec, load_permutations(source, spec, models.seeds, search))
        surface = landscape(permuted, data.split(settings["split"]), settings["resolution"], recalibrate)
        run = {"experiment": params.experiment, "count": len(models), **search}
        write_sealed(surface.assign(split=settings["split"], **run), target)
