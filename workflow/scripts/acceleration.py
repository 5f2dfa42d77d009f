"""Hold STE-MM with warm-started assignments against the same search without, for all models of a trial."""

from onebasin.data import load_data
from onebasin.machine.jobs import computing_job
from onebasin.measures.acceleration import compare_warm_start
from onebasin.models.checkpoints import load_models
from onebasin.storage.files import write_sealed
from onebasin.symmetry.spec import load_spec

params = snakemake.params
with computing_job(snakemake.log[0], **params.compute) as device:
    data = load_data(snakemake.input.data, device, params.recipe["data"])
    models = load_models(snakemake.input.models, params.network, device, params.recipe)
    spec = load_spec(snakemake.input.symmetries, params.network)
    table = compare_warm_start(models, spec, data, params.settings, params.seed, "acceleration", params.trial)
    run = {"experiment": params.experiment, "method": "ste_mm", "count": len(models), "trial": params.trial}
    write_sealed(table.assign(**run), snakemake.output[0])
