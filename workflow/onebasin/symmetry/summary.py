"""How much of a network its symmetries move."""

from torch import nn

from onebasin.symmetry.spec import Spec


def moving_share(module: nn.Module, spec: Spec) -> float:
    """The share of the parameters that a group moves: those at a place of some axis where one acts, in [0, 1].

    A parameter of several names counts once, buffers do not count.
    """
    moving = total = 0
    for name, parameter in module.named_parameters():
        stays = parameter.numel()
        for axis, parts in spec.axes_of(name).items():
            length = parameter.shape[axis]
            taken = sum(own.length(group.size) for own, group in parts)
            stays = stays * (length - taken) // length
        moving += parameter.numel() - stays
        total += parameter.numel()
    return moving / total if total else 0.0
