"""Search the permutations of a trial's models by one method; write them for every count asked for, and the time."""

import re
import time

import pandas as pd

from onebasin.data import load_data
from onebasin.files import write_sealed
from onebasin.jobs import computing_job, peak_memory_mb
from onebasin.models import load_models
from onebasin.registry import resolve
from onebasin.seeding import generator
from onebasin.symmetry.permutations import save_permutations
from onebasin.symmetry.spec import load_spec

params = snakemake.params
with computing_job(snakemake.log[0], **params.compute) as device:
    data = load_data(snakemake.input.data, device, params.made["data"])
    models = load_models(snakemake.input.models, params.network, device, params.made)
    spec = load_spec(snakemake.input.symmetries, params.network)
    search = resolve("method", params.function)
    draws = generator(params.seed, "search", params.method, len(models), params.trial, device=device)
    start = time.perf_counter()
    permutations = search(models, spec, data, params.settings, draws)
    seconds = time.perf_counter() - start
    for path in snakemake.output.permutations:
        count = int(re.search(r"n(\d+)-t\d+\.safetensors$", path)[1])
        facts = {"method": params.method, "settings": params.settings, "trial": params.trial}
        save_permutations(path, permutations.first(count), models=models.seeds[:count], **facts)
    timing = {"experiment": params.experiment, "method": params.method, "count": len(models), "trial": params.trial}
    timing |= {"seconds": seconds, "steps": permutations.work["steps"], "peak_memory_mb": peak_memory_mb()}
    write_sealed(pd.DataFrame([timing]), snakemake.output.timing)
