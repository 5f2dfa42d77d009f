"""Train the models of one stack; write a checkpoint and a history per seed."""

from onebasin.data import load_data
from onebasin.files import write_frame
from onebasin.jobs import computing_job
from onebasin.models import save_model
from onebasin.training import train

params = snakemake.params
with computing_job(snakemake.log[0], **params.compute) as device:
    data = load_data(snakemake.input.data, device)
    models, history = train(params.network, data, params.training, params.seeds, params.seed)
    for index, seed in enumerate(models.seeds):
        made = {"network": params.network, "training": params.training, "data": params.data, "root": params.seed}
        save_model(snakemake.output.models[index], models, index, data.classes, made)
        write_frame(history[history["seed"] == seed], snakemake.output.history[index])
