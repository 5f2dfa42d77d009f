"""Hierarchical re-basin: many models merged in stages, two and two (Franke et al., arXiv 2510.09174, 2025).

In a stage the averages so far are taken two by two; weight matching brings the two together, and they are averaged. Of
2^n models a stage halves the number; where it is odd, the last one waits for the next stage. As an average of permuted
models is what it is whatever permutes all of them alike, the whole is a permutation of every model: what a stage finds
for an average acts on all models in it. Averages have the weights of their numbers of models, so that the last one is
the plain average of all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from onebasin.data import Data
from onebasin.matching.weight import weight_matching
from onebasin.models.stack import Models
from onebasin.parameters import Parameters, lerp, one, stacked
from onebasin.symmetry.alignment import Alignment
from onebasin.symmetry.apply import Elements, act_on_stack, compose, identity
from onebasin.symmetry.spec import Spec


def hierarchical(
    models: Models, spec: Spec, data: Data | None, settings: Mapping[str, Any], generator: torch.Generator
) -> Alignment:
    """Alignment of all models by weight matching of pairs of averages; of two models it is weight matching.

    Args:
        data: not read.
        settings: those of `weight_matching`.
    """
    start = one(identity(spec, 1, models.device), 0)
    nodes = [_Node({own: start}, one(models.weights, own)) for own in range(len(models))]
    work: dict[str, int] = {}
    while len(nodes) > 1:
        merged = []
        for first, second in zip(nodes[::2], nodes[1::2], strict=False):
            pair = replace(models, parameters=stacked([first.average, second.average]), seeds=(0, 1))
            found = weight_matching(pair, spec, data, settings, generator)
            work = {name: work.get(name, 0) + count for name, count in found.work.items()}
            merged.append(_joined(first, second, pair, spec, found))
        nodes = merged + nodes[len(nodes) - len(nodes) % 2 :]
    [root] = nodes
    return Alignment(stacked([root.elements[own] for own in range(len(models))]), work)


@dataclass(frozen=True)
class _Node:
    """Some of the models: the elements that bring each of them to the others, and their average."""

    elements: dict[int, Elements]
    average: Parameters


def _joined(first: _Node, second: _Node, pair: Models, spec: Spec, found: Alignment) -> _Node:
    elements = {
        own: compose(spec, before, found.of(side))
        for side, node in enumerate((first, second))
        for own, before in node.elements.items()
    }
    both = act_on_stack(pair.parameters, spec, found.elements)
    return _Node(elements, lerp(one(both, 0), one(both, 1), len(second.elements) / len(elements)))
