"""Search the permutations of a trial's models by one method; write them for every count asked for, and the time."""

import re
import time

from onebasin.data import load_data
from onebasin.machine.jobs import computing_job, peak_memory_mb
from onebasin.matching.search import run_search, save_found
from onebasin.models.checkpoints import load_models
from onebasin.registry import resolve
from onebasin.storage.parts import write_parts
from onebasin.symmetry.spec import load_spec

params = snakemake.params
with computing_job(snakemake.log[0], **params.compute) as device:
    data = load_data(snakemake.input.data, device, params.recipe["data"])
    models = load_models(snakemake.input.models, params.recipe["network"], device, params.recipe)
    spec = load_spec(snakemake.input.symmetries, params.recipe["network"])
    search = resolve("method", params.function)
    start = time.perf_counter()
    permutations = run_search(search, params.method, models, spec, data, params.settings, params.seed, params.trial)
    seconds = time.perf_counter() - start
    for path in snakemake.output.permutations:
        count = int(re.search(r"n(\d+)-t\d+\.safetensors$", path)[1])
        save_found(path, permutations.first(count), models.first(count), params.method, params.settings, params.trial)
    timing = {"experiment": params.experiment, "method": params.method, "count": len(models), "trial": params.trial}
    timing |= {"seconds": seconds, "steps": permutations.work["steps"], "peak_memory_mb": peak_memory_mb()}
    write_parts({"timing": timing}, snakemake.output.timing)
