"""List the singular values of all models' layers, and how strongly the layers' inputs excite them."""

import pandas as pd

from onebasin.data import load_data
from onebasin.machine.jobs import computing_job
from onebasin.measures.responses import responses
from onebasin.measures.singular import decompose, singular_values
from onebasin.models.checkpoints import load_models
from onebasin.storage.files import write_sealed

params = snakemake.params
with computing_job(snakemake.log[0], **params.compute) as device:
    split = load_data(snakemake.input.data, device, params.recipe["data"]).split(params.split).first(params.images)
    tables = {"singular_values": [], "responses": []}
    for trial, path in zip(params.trials, snakemake.input.models, strict=True):
        models = load_models([path], params.network, device, params.recipe)
        place = {"experiment": params.experiment, "trial": trial, "model": models.seeds[0]}
        parts = decompose({name: tensor[0] for name, tensor in models.weights.items()})
        excited = responses(models.network, models[0], parts, split).assign(split=params.split)
        tables["singular_values"].append(singular_values(parts).assign(**place))
        tables["responses"].append(excited.assign(**place))
    for name, found in tables.items():
        write_sealed(pd.concat(found), snakemake.output[name])
