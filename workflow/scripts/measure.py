"""Measure one thing: of all models of an experiment, of a trial's, or of what methods found in a trial."""

from itertools import product

from onebasin.machine.jobs import computing_job
from onebasin.measures.run import Run, measured
from onebasin.registry import resolve
from onebasin.storage.parts import write_parts

params, files = snakemake.params, dict(snakemake.input.items())
with computing_job(snakemake.log[0], **params.compute) as device:
    seeds = [seed for of_trial in params.run["seeds"].values() for seed in of_trial]
    for kind, names in {"models": seeds, "merged": None, "permutations": None}.items():
        if kind in files:
            names = names or product(params.methods, params.run["counts"])
            files[kind] = dict(zip(names, snakemake.input.get(kind), strict=True))
    run = Run(**params.run, device=device, files=files)
    write_parts(
        measured(resolve("measure", params.function), run, params.settings, params.methods), snakemake.output[0]
    )
