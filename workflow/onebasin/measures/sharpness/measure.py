"""How sharp the loss is at models of one network: exactly where that can be had, estimated elsewhere."""

import copy
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from onebasin import seeding
from onebasin.data import Split
from onebasin.inputs import in_type_of
from onebasin.measures.run import Run, by_count, one_below_the_other
from onebasin.measures.sharpness.gauss_newton import hessian_diagonal
from onebasin.measures.sharpness.hutchinson import Estimate, hessian_trace, scaled_hessian_trace, top_eigenvalue
from onebasin.measures.sharpness.piecewise_linear import NotPiecewiseLinearError, PiecewiseLinear, piecewise_linear
from onebasin.models.objective import objective_named
from onebasin.parameters import Parameters
from onebasin.registry import CROSS_ENTROPY

logger = logging.getLogger(__name__)

VALUES = 2**18  # input values a pass of the exact diagonal: 85 images of CIFAR-10's shape, whose activations are held
LAYERS = ("estimator", "layer", "value")


class Sharpness:
    """What is measured at models of one network on one split.

    Both traces are exact where the network is piecewise linear in every parameter (`piecewise_linear`): their number
    of probes and standard error are 0 then, and they are given layer by layer, too. Elsewhere they are estimated.

    Attributes:
        reason: why they are estimated; None where they are exact.
    """

    def __init__(self, network: nn.Module, split: Split, probes: int) -> None:
        """Look at the network's graph.

        Args:
            network: gives the function; its own parameters do not matter and stay as they are.
            split: the images and labels whose mean loss is meant.
            probes: number of draws per estimated trace.

        Raises:
            OnebasinError: the network has several inputs.
        """
        self.network, self.split, self.probes = network, split, probes
        self.objective = objective_named(split.objective)
        images = split.only_input("sharpness")
        self.batch = max(2, min(len(split), VALUES // math.prod(images.shape[1:])))
        self.graph: PiecewiseLinear | None = None
        self.reason: str | None = None
        example = torch.zeros(self.batch, *images.shape[1:], device=images.device)
        try:
            if split.objective != CROSS_ENTROPY:
                raise NotPiecewiseLinearError(f"the objective is {split.objective}, not {CROSS_ENTROPY}")
            self.graph = piecewise_linear(network, example.to(images.dtype))
        except NotPiecewiseLinearError as why:
            self.reason = str(why)
            logger.info("traces are estimated, as the network is not known to be piecewise linear: %s", why)

    def at(self, parameters: Parameters, *key: int | str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Both traces, the top eigenvalue, and the traces by layer, at one model.

        Args:
            parameters: where to measure.
            key: names the random streams.

        Returns:
            Two rows `estimator, value, standard_error, probes`; one row `value, residual`; and rows
            `estimator, layer, value`, none where the traces are estimated. A layer is a module with parameters.
        """
        here = copy.deepcopy(self.network)
        here.load_state_dict(parameters)
        images = self._images(parameters)
        labels, objective = self.split.targets, self.objective
        layers = self._by_layer(parameters)
        if self.graph is None:
            generator = seeding.generator(*key, "scaled_trace", device=labels.device)
            estimates = {
                "trace": hessian_trace(here, images, labels, self.probes, (*key, "trace"), objective=objective),
                "scaled_trace": scaled_hessian_trace(here, images, labels, self.probes, generator, objective=objective),
            }
        else:
            sums = layers.groupby("estimator", sort=False)["value"].sum()
            estimates = {name: Estimate(float(sums.get(name, 0.0)), 0.0, 0) for name in ("trace", "scaled_trace")}
        eigenvalue = top_eigenvalue(here, images, labels, (*key, "top_eigenvalue"), objective=objective)
        traces = [{"estimator": name, **asdict(estimate)} for name, estimate in estimates.items()]
        return pd.DataFrame(traces), pd.DataFrame([asdict(eigenvalue)]), layers

    def _images(self, parameters: Parameters) -> Tensor:
        return in_type_of(self.split.only_input("sharpness"), parameters)

    def _by_layer(self, parameters: Parameters) -> pd.DataFrame:
        """The exact traces by layer: sums of H_ii, and of H_ii theta_i^2, over a module's own parameters."""
        rows: dict[tuple[str, str], float] = {}
        if self.graph is not None:
            diagonal = hessian_diagonal(self.graph, parameters, self._images(parameters), self.batch)
            for name, entries in diagonal.items():
                layer, exact = name.rpartition(".")[0], entries.double()
                scaled = exact * parameters[name].double() ** 2
                for estimator, value in (("trace", exact), ("scaled_trace", scaled)):
                    rows[estimator, layer] = rows.get((estimator, layer), 0.0) + float(value.sum())
        ordered = sorted(rows.items(), key=lambda row: row[0][0] != "trace")
        return pd.DataFrame([(*key, value) for key, value in ordered], columns=[*LAYERS])


TABLES = ("sharpness", "top_eigenvalue", "sharpness_layers")


def _sharpness(run: Run, settings: Mapping[str, Any]) -> Sharpness:
    return run.once("sharpness", lambda: Sharpness(run.network, run.split(settings), settings["probes"]))


def measure_parents(run: Run, settings: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Measure `parents_sharpness`: the tables of `sharpness` at the models of a trial, which no permutation changes."""
    sharpness, models = _sharpness(run, settings), run.models

    def at(seed: int, model: Parameters) -> dict[str, pd.DataFrame]:
        found = zip(TABLES, sharpness.at(model, run.root, "sharpness", seed), strict=True)
        return {table: part.assign(model=seed, split=settings["split"]) for table, part in found}

    return one_below_the_other(map(at, models.seeds, models))


def measure_sharpness(run: Run, settings: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Measure `sharpness`: at the merged models of a method and trial, and at their parents beside them.

    Args:
        settings: the `split` and how many of its `images` are looked at; `probes` of traces that are estimated.
    """

    def measured(count: int) -> dict[str, pd.DataFrame]:
        found = _sharpness(run, settings).at(run.merged(count), run.root, "sharpness", run.method, count, run.trial)
        seeds, tables = run.seeds[run.trial][:count], {}
        for table, part in zip(TABLES, found, strict=True):
            parents = run.part(table)
            own = parents[parents["model"].isin(seeds)]
            tables[table] = pd.concat([part.assign(model="merged", split=settings["split"]), own])
        return tables

    return by_count(run, measured)
