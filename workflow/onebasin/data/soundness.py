"""What every measure takes for granted of a data set: whole class numbers that exist, and finite inputs."""

import torch

from onebasin.data.types import Data
from onebasin.errors import OnebasinError


def require_sound(data: Data) -> None:
    """Refuse targets that are no class numbers, and inputs that are not finite.

    Raises:
        OnebasinError: targets are not int64, or not of 0 to `classes` - 1; an input holds NaN or infinity.
    """
    for name, split in data.splits.items():
        targets, inputs = split.targets, split.inputs
        if targets.dtype != torch.int64:
            raise OnebasinError(
                f"data: the {name} targets are {targets.dtype}; they have to be class numbers, int64 (targets.long())"
            )
        outside = targets[(targets < 0) | (targets >= data.classes)]
        if len(outside):
            raise OnebasinError(
                f"data: a {name} target is {int(outside[0])}, and {data.classes} classes are 0 to {data.classes - 1}; "
                f"correct the targets or the number of classes"
            )
        if inputs.is_floating_point():
            wrong = (~inputs.flatten(1).isfinite().all(dim=1)).nonzero()
            if len(wrong):
                raise OnebasinError(
                    f"data: {len(wrong)} {name} inputs hold NaN or infinity, the first of them number "
                    f"{int(wrong[0])}; leave them out or mend them"
                )
