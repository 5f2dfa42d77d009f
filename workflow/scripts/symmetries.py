"""Trace an experiment's network, and prove that its permutations leave the function as it is."""

from onebasin.data import load_data
from onebasin.machine.jobs import computing_job
from onebasin.networks.build import matched_network
from onebasin.seeding import generator
from onebasin.symmetry.check import check
from onebasin.symmetry.spec import save_spec
from onebasin.symmetry.trace import trace

params = snakemake.params
with computing_job(snakemake.log[0], **params.compute):
    data = load_data(snakemake.input.data, recipe=params.data)
    # the symmetries are those of the graph, whatever the values
    network = matched_network(params.network, data.input_shape, data.classes, "symmetries")
    example = data.example()
    spec = trace(network, example)
    change = check(network, spec, example, generator("symmetries"))
    save_spec(snakemake.output[0], spec, network=params.network, largest_relative_change_of_the_output=change)
