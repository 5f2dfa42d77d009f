"""Match a trial's models by their dominant singular directions alone, and measure the barriers of the whole models."""

from onebasin.data import load_data
from onebasin.machine.jobs import computing_job
from onebasin.measures.truncation import truncation_barriers
from onebasin.merging.recalibration import Recalibration
from onebasin.models.checkpoints import load_models
from onebasin.storage.files import write_sealed
from onebasin.symmetry.spec import load_spec

params = snakemake.params
with computing_job(snakemake.log[0], **params.compute) as device:
    data = load_data(snakemake.input.data, device, params.recipe["data"])
    models = load_models(snakemake.input.models, params.network, device, params.recipe)
    recalibrate = Recalibration(models.network, data.train, params.normalization)
    spec = load_spec(snakemake.input.symmetries, params.network)
    key = (params.seed, "truncation", params.trial)
    search = (params.gammas, params.settings)
    table = truncation_barriers(models, spec, data, *search, params.points, recalibrate, *key)
    run = {"experiment": params.experiment, "method": "weight_matching", "count": 2, "trial": params.trial}
    write_sealed(table.assign(**run), snakemake.output[0])
