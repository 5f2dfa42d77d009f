"""Balancing the load of experts: a loss that is least where all are chosen alike often.

N. Shazeer et al., "Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer", ICLR 2017; in the
form of W. Fedus, B. Zoph, N. Shazeer, "Switch Transformers", JMLR 2022, equation 4: n sum_i f_i P_i, with f_i the share
of choices that fall on expert i and P_i the mean of its softmax over all experts. Its least value is 1.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from onebasin.networks.moe import Mixture


def imbalance(scores: Tensor, weights: Tensor) -> Tensor:
    """n sum_i f_i P_i of a batch.

    Args:
        scores: of the gate, `[batch, n]`.
        weights: that the experts get by them, `[batch, n]`; those that are not chosen have 0.
    """
    chosen = (weights > 0).to(scores.dtype)
    shares = (chosen / chosen.sum(dim=1, keepdim=True)).mean(dim=0)
    return scores.shape[1] * (shares * scores.softmax(dim=1).mean(dim=0)).sum()


@contextmanager
def watching(network: nn.Module) -> Iterator[list[Tensor]]:
    """Within the block, the list gets the `imbalance` of every mixture of the network that runs."""
    found: list[Tensor] = []
    mixtures = [part for part in network.modules() if isinstance(part, Mixture)]

    def see(mixture: Mixture) -> torch.utils.hooks.RemovableHandle:
        def hook(gate: nn.Module, given: tuple[Tensor, ...], scores: Tensor) -> None:
            found.append(imbalance(scores, mixture.weights(scores)))

        return mixture.gate.register_forward_hook(hook)

    handles = [see(mixture) for mixture in mixtures]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
