"""Take a checkpoint that was made elsewhere as a model of the experiment."""

from onebasin.data import load_data
from onebasin.machine.jobs import computing_job
from onebasin.models.checkpoints import fitted, origin, read_model_file, save_model
from onebasin.models.stack import Models
from onebasin.networks.build import new_network
from onebasin.parameters import stacked

params = snakemake.params
with computing_job(snakemake.log[0], **params.compute):
    data = load_data(snakemake.input.data, recipe=params.recipe["data"])
    network = new_network(params.recipe["network"], data.input_shape, data.classes, "unused")
    checkpoint = snakemake.input.checkpoint
    tensors = fitted(read_model_file(checkpoint).tensors, network, checkpoint)
    model = Models(network, stacked([tensors]), (params.seed,), data.input_shape, data.input_type)
    save_model(snakemake.output[0], model, 0, data.classes, params.recipe, **origin(checkpoint))
