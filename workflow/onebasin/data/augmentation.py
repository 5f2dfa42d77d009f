"""Training images shifted and mirrored at random: a whole batch at once, on its device, from an explicit generator.

What torchvision's `RandomCrop(size, padding)` and `RandomHorizontalFlip` do to one image is done to every image of a
batch by one gather. Those pad with black before they normalise; here the images are normalised already, and padded with
what black has become (`Data.black`).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def augment(images: Tensor, settings: Mapping[str, Any], generator: torch.Generator, black: Tensor) -> Tensor:
    """The images `[n, c, h, w]`, each moved and mirrored by its own draw; see `draw` and `move`."""
    return move(images, draw(len(images), settings, generator), black)


def draw(count: int, settings: Mapping[str, Any], generator: torch.Generator) -> Tensor:
    """What is to happen to `count` images: `[count, 3]` integers, how far down, how far right, and whether mirrored.

    A stack of models draws for every model from its own generator, and moves all their images at once.

    Args:
        settings: `crop` (0), the padding: up to so many pixels in each direction; `flip` (false), mirror half of them.
        generator: the one source of randomness; equal states give equal draws, whatever the images.
    """
    device, crop, flip = generator.device, settings.get("crop", 0), settings.get("flip", False)
    shifts = torch.randint(-crop, crop + 1, (count, 2), generator=generator, device=device)
    mirrored = torch.randint(0, 1 + flip, (count, 1), generator=generator, device=device)
    return torch.cat([shifts, mirrored], dim=1)


def move(images: Tensor, draws: Tensor, black: Tensor) -> Tensor:
    """Mirror, then shift every image of `[n, c, h, w]` by its row of `draws` `[n, 3]`; what is uncovered is black.

    Args:
        black: the value of a black pixel, `[c]`.
    """
    height, width = images.shape[-2:]
    down, right, mirrored = draws.to(images.device).T[..., None]
    rows = torch.arange(height, device=images.device) - down  # [n, h], where each row comes from
    columns = torch.arange(width, device=images.device) - right
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    columns = torch.where(mirrored.bool(), width - 1 - columns, columns)
    source = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
    moved = images.flatten(2).gather(2, source.flatten(1)[:, None].expand(-1, images.shape[1], -1)).view_as(images)
    return torch.where(inside[:, None], moved, black.view(-1, 1, 1))
