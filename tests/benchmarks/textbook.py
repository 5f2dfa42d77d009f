"""The searches as one writes them down from the papers: one model, one group, one matrix, one SciPy call at a time.

The baseline of the benchmarks. Nothing is batched over models, no group is skipped, every assignment starts cold and
every gradient comes from autograd, but nothing is made slow on purpose either: permutations are index tensors, the
products are torch's, and SciPy's solver is compiled. Models are plain dictionaries of tensors without a model axis.
"""

from collections.abc import Iterable

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from onebasin.parameters import Parameters
from onebasin.symmetry.apply import Elements, act
from onebasin.symmetry.spec import Group, Spec

MAX_SWEEPS = 300


def gain_matrix(target: Parameters, source: Parameters, spec: Spec, indices: Elements, group: Group) -> Tensor:
    """G `[n, n]` = sum over the group's axes of A B^T, B's other axes permuted (Ainsworth et al. 2023, equation 2)."""
    gain = torch.zeros((), device=next(iter(target.values())).device)
    for axis in group.axes:
        ours, theirs = target[axis.tensor], source[axis.tensor]
        for other, ((_, neighbour),) in spec.axes_of(axis.tensor).items():
            if other != axis.axis:
                theirs = theirs.index_select(other, indices[neighbour.name])
        ours, theirs = (tensor.movedim(axis.axis, 0).reshape(group.size, -1) for tensor in (ours, theirs))
        gain = gain + ours @ theirs.T
    return gain


def sweep(target: Parameters, source: Parameters, spec: Spec, indices: Elements, order: Iterable[int]) -> bool:
    """Solve every group once, changing `indices`; say whether one improved."""
    improved = False
    for position in order:
        group = spec.groups[position]
        gain = gain_matrix(target, source, spec, indices, group).cpu().numpy()
        rows, columns = linear_sum_assignment(gain, maximize=True)
        present = gain[rows, indices[group.name].cpu().numpy()]
        if gain[rows, columns].sum(dtype=np.float64) > present.sum(dtype=np.float64):
            indices[group.name] = torch.from_numpy(columns).to(indices[group.name].device)
            improved = True
    return improved


def match(target: Parameters, source: Parameters, spec: Spec, indices: Elements, generator: torch.Generator) -> bool:
    """Weight matching of two models: sweeps in random order until one changes nothing. Changes `indices`."""
    for number in range(MAX_SWEEPS):
        if not sweep(target, source, spec, indices, torch.randperm(len(spec.groups), generator=generator).tolist()):
            return number > 0
    return True


def start(spec: Spec, device: torch.device | str = "cpu") -> Elements:
    """The identity."""
    return {group.name: torch.arange(group.size, device=device) for group in spec.groups}


def match_many(models: list[Parameters], spec: Spec, generator: torch.Generator) -> list[Elements]:
    """Every model to the mean of the others, in random order, until a round over all changes nothing (MergeMany)."""
    indices = [start(spec, next(iter(models[0].values())).device) for _ in models]
    permuted = list(models)
    changed = True
    while changed:
        changed = False
        for i in torch.randperm(len(models), generator=generator).tolist():
            others = [other for j, other in enumerate(permuted) if j != i]
            target = {name: torch.stack([other[name] for other in others]).mean(dim=0) for name in models[i]}
            if match(target, models[i], spec, indices[i], generator):
                permuted[i] = act(models[i], spec, indices[i])
                changed = True
    return indices


class SteMM:
    """STE-MM (Ito et al. 2025), a step at a time. The first model is fixed, the latent targets start from it."""

    def __init__(
        self, network: torch.nn.Module, models: list[Parameters], spec: Spec, lr: float, generator: torch.Generator
    ) -> None:
        self.network, self.models, self.spec, self.generator = network.train(), models, spec, generator
        self.latents = [{name: t.clone().requires_grad_() for name, t in models[0].items()} for _ in models[1:]]
        self.elements = [start(spec, next(iter(models[0].values())).device) for _ in models[1:]]
        self.optimizer = torch.optim.Adam([tensor for latent in self.latents for tensor in latent.values()], lr=lr)

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Match every model to its latent target, then move the targets by the loss at a convex combination."""
        straight_through = [self.models[0]]
        for latent, model, indices in zip(self.latents, self.models[1:], self.elements, strict=True):
            match({name: t.detach() for name, t in latent.items()}, model, self.spec, indices, self.generator)
            permuted = act(model, self.spec, indices)
            straight_through.append({name: permuted[name] + (t - t.detach()) for name, t in latent.items()})
        weights = torch.rand(len(self.models), generator=self.generator)
        weights = (weights / weights.sum()).tolist()
        combination = {
            name: sum(weight * model[name] for weight, model in zip(weights, straight_through, strict=True))
            for name in self.models[0]
        }
        loss = F.cross_entropy(functional_call(self.network, combination, (images,)), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
