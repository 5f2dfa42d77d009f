"""Learned matching: symmetries by gradient descent on the loss of mixtures (Theus et al., arXiv 2506.22712).

The weights stay; what is learned is an element of every group and model but the first. An orthogonal one is the
orthogonal factor of a latent matrix, a permutation the assignment that a latent matrix wants most, with the gradient
passed straight through. A step measures the loss at a mixture of the mapped models: of two at lambda ~ U(0.4, 0.6), of
more with weights from a Dirichlet distribution, which favours mixtures of few.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.adam import adam

from onebasin.data import Data, Split
from onebasin.matching.latents import ADAM, loss_at, own_dropout, training_batches, with_reference
from onebasin.matching.weight import draw_seed, weight_matching
from onebasin.models.stack import Models
from onebasin.parameters import combine
from onebasin.progress import track
from onebasin.symmetry.alignment import Alignment
from onebasin.symmetry.apply import Elements, act, identity, to_first
from onebasin.symmetry.kinds import kind_of
from onebasin.symmetry.kinds.orthogonal import matrix_of, rotation
from onebasin.symmetry.spec import Group, Spec

SCALE = 0.02  # of a permutation's latent matrix at first: at 1 no gradient would ever flip it
NEAR_HALF = (0.4, 0.6)


def learned(
    models: Models, spec: Spec, data: Data, settings: Mapping[str, Any], generator: torch.Generator
) -> Alignment:
    """Alignment of models 2..N to the first, which stays as it is.

    Args:
        settings: `start`: `matching` (`weight_matching`) or `identity`; `epochs`, `batch`, `lr` of Adam over the latent
            matrices, `augmentation`; `concentration` of the mixtures of three or more.
    """
    start = identity(spec, len(models), models.device)
    if settings["start"] == "matching":
        matching = {"max_rounds": 100, "first_sweep": "signal"}
        start = to_first(spec, weight_matching(models, spec, data, matching, generator).elements)
    search = Learned(models, spec, {name: element[1:] for name, element in start.items()}, settings["lr"])
    draws = np.random.default_rng(draw_seed(generator))
    steps = 0
    with own_dropout(generator):
        for _ in track(range(settings["epochs"]), f"learned matching of {len(models)}, epochs", settings["epochs"]):
            for batch in training_batches(data, settings, generator):
                search.step(batch, mixture(len(models), settings["concentration"], draws))
                steps += 1
    return Alignment(with_reference(spec, search.elements()), {"steps": steps, **search.work})


def mixture(count: int, concentration: float, draws: np.random.Generator) -> list[float]:
    """The weights of one step's mixture, which sum up to 1: of three or more from a Dirichlet distribution, the lower
    its concentration, the nearer to a single model."""
    if count == 2:
        weight = float(draws.uniform(*NEAR_HALF))
        return [1 - weight, weight]
    weights: list[float] = draws.dirichlet([concentration] * count).tolist()
    return weights


class Learned:
    """The latent matrices of all models but the first, and one Adam over all of them."""

    def __init__(self, models: Models, spec: Spec, start: Mapping[str, Tensor], lr: float) -> None:
        self._models, self._spec, self._lr = models, spec, lr
        # a permutation is an orthogonal matrix, and a product with one has a gradient
        self._as_matrices = replace(spec, groups=tuple(replace(group, kind="orthogonal") for group in spec.groups))
        others = len(models) - 1
        self._groups = {group.name: group for group in spec.groups}
        self._solvers = {group.name: kind_of(group).solver(others, group, True) for group in spec.groups}
        self._present = {name: element.clone() for name, element in start.items()}
        self._latents = {
            name: element.clone() if name in self._spec.rotated else SCALE * matrix_of(element)
            for name, element in self._present.items()
        }
        self._means, self._squares = ([torch.zeros_like(own) for own in self._latents.values()] for _ in range(2))
        self._steps = [torch.zeros((), device=models.device) for _ in self._latents]

    @property
    def work(self) -> dict[str, int]:
        """The problems solved so far, and what they took."""
        solvers = self._solvers.values()
        return {"assignments": sum(s.solved for s in solvers), "row_scans": sum(s.row_scans for s in solvers)}

    def elements(self) -> Elements:
        """The present elements `[N - 1, ...]` of every group."""
        with torch.no_grad():
            return {
                name: rotation(latent) if name in self._spec.rotated else self._assigned(self._groups[name], latent)
                for name, latent in self._latents.items()
            }

    def step(self, batch: Split, weights: list[float]) -> None:
        """One step of Adam down the loss of a batch at the mixture of these weights."""
        loss, latents = self.loss(batch, weights)
        # the fused kernel reads both as flat memory
        gradients = [own.contiguous() for own in torch.autograd.grad(loss, list(latents.values()))]
        parameters = list(self._latents.values())
        adam(parameters, gradients, self._means, self._squares, [], self._steps, fused=True, lr=self._lr, **ADAM)

    def loss(self, batch: Split, weights: list[float]) -> tuple[Tensor, Elements]:
        """The loss at the mixture, and the latent matrices as leaves of its graph."""
        latents = {name: latent.detach().requires_grad_() for name, latent in self._latents.items()}
        matrices = {name: self._matrices(name, latent) for name, latent in latents.items()}
        first, *others = self._models
        mapped = [
            act(own, self._as_matrices, {name: matrix[k] for name, matrix in matrices.items()})
            for k, own in enumerate(others)
        ]
        mixed = combine(zip(weights, [first, *mapped], strict=True))
        return loss_at(self._models.network, mixed, batch), latents

    def _matrices(self, name: str, latent: Tensor) -> Tensor:
        if name in self._spec.rotated:
            return rotation(latent)
        hard = matrix_of(self._assigned(self._groups[name], latent.detach())).to(latent.dtype)
        return hard + latent - latent.detach()

    def _assigned(self, group: Group, latent: Tensor) -> Tensor:
        """The permutations that the latent matrices want most, those of before where they are as good."""
        present = self._present[group.name]
        new, improved = self._solvers[group.name].best(latent.neg(), range(len(latent)), present)
        present[torch.from_numpy(improved)] = new[torch.from_numpy(improved)]
        return present.clone()
