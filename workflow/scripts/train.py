"""Train the models of one job; write a checkpoint and a history per seed."""

from pathlib import Path

from onebasin.data import load_data
from onebasin.machine.jobs import computing_job
from onebasin.models.checkpoints import save_model
from onebasin.storage.digests import of_json
from onebasin.storage.parts import write_parts
from onebasin.training.run import train

params = snakemake.params
with computing_job(snakemake.log[0], **params.compute) as device:
    recipe = params.recipe
    data = load_data(snakemake.input.data, device, recipe["data"])
    # not an output: what a killed training goes on from must outlive the job
    states = [Path(path).parents[1] / "training" / Path(path).name for path in snakemake.output.models]
    key = of_json([recipe, params.compute, params.code])
    models, history = train(recipe["network"], data, recipe["training"], params.seeds, recipe["root"], states, key)
    for index, seed in enumerate(models.seeds):
        save_model(snakemake.output.models[index], models, index, data.classes, recipe)
        own = history[history["seed"] == seed].assign(experiment=params.experiment)
        write_parts({"history": own}, snakemake.output.history[index])
    for state in states:
        state.unlink(missing_ok=True)
