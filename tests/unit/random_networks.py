"""Random small networks, put together from steps that relate axes in all kinds of ways: for what has to hold of any.

A step gets a tensor and those before it. Most are written without regard to whether they commute with permutations.
"""

import torch
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from onebasin import seeding


class Step(nn.Module):
    """A function of itself, a tensor and the tensors before it, and the parts that it uses."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x, past):
        return self.function(self, x, past)


class Path(nn.Module):
    def __init__(self, steps):
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(self, x):
        past = [x]
        for step in self.steps:
            past.append(step(past[-1], past[:-1]))
        return past[-1]


def weight(*shape):
    return nn.Parameter(torch.randn(*shape))


def like(past, x, *axes):
    """The latest of the tensors before that agrees with x on these axes, x itself if none does."""
    fitting = [old for old in past if old.dim() == x.dim() and all(old.shape[a] == x.shape[a] for a in axes)]
    return fitting[-1] if fitting else x


def plain(function):
    """A step without parameters."""
    return lambda x, n: Step(lambda step, x, past: function(x))


def with_past(function, *axes):
    return lambda x, n: Step(lambda step, x, past: function(x, like(past, x, *axes)))


def module(make):
    return lambda x, n: Step(lambda step, x, past: step.part(x), part=make(x, n))


def scaled(*shape_of):
    """Times or plus a parameter that has the axes of the input at the places named, and ones elsewhere."""
    shape = lambda x: [x.shape[axis] if axis in shape_of else 1 for axis in range(x.dim())]  # noqa: E731
    return lambda x, n: Step(lambda step, x, past: x * step.scale + step.scale, scale=weight(*shape(x)))


def halves(x):
    return x.shape[1] % 2 == 0


def excite(x, n):
    down, up = nn.Conv2d(x.shape[1], n, 1), nn.Conv2d(n, x.shape[1], 1)
    return Step(
        lambda step, x, past: x * step.up(step.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid(), down=down, up=up
    )


def tied(x, n):
    """There and back through one weight."""
    return Step(
        lambda step, x, past: F.conv_transpose2d(F.conv2d(x, step.w).tanh(), step.w), w=weight(n, x.shape[1], 1, 1)
    )


def again(x, n):
    """One convolution applied twice, with what was before in between."""
    conv = nn.Conv2d(x.shape[1], x.shape[1], 1)
    return Step(lambda step, x, past: step.conv(step.conv(x).relu() + x), conv=conv)


def attention(x, n):
    qkv = nn.Linear(x.shape[1], 3 * 2 * n)

    def function(step, x, past):
        q, k, v = step.qkv(x.transpose(1, -1).flatten(1, 2)).view(len(x), -1, 3, 2, n).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2).mT[..., None]

    return Step(function, qkv=qkv)


def filled(x):
    """One channel set to a number."""
    x = x.clone()
    x[:, :1].fill_(0.5)
    return x


def copied(x, old):
    """The first channels overwritten by older ones."""
    x, channels = x.clone(), min(x.shape[1], old.shape[1])
    x[:, :channels].copy_(old[:, :channels])
    return x


EVEN_CHANNELS = {
    "grouped": module(lambda x, n: nn.Conv2d(x.shape[1], 2 * n, 1, groups=2)),
    "group norm": module(lambda x, n: nn.GroupNorm(2, x.shape[1])),
    "gate": plain(lambda x: x.chunk(2, 1)[0] * x.chunk(2, 1)[1].sigmoid()),
    "glu": plain(lambda x: F.glu(x, 1)),
    "shuffle": plain(lambda x: x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)),
    "unflattened": plain(lambda x: x.unflatten(1, (-1, 2)).amax(2)),
    "swapped": plain(lambda x: torch.cat([*x.chunk(2, 1)][::-1], 1) + x),
}
IMAGES = {
    "conv": module(lambda x, n: nn.Conv2d(x.shape[1], n, 1)),
    "wide conv": module(lambda x, n: nn.Conv2d(x.shape[1], n, 3, padding=1, bias=False)),
    "transposed conv": module(lambda x, n: nn.ConvTranspose2d(x.shape[1], n, 1)),
    "depthwise": module(lambda x, n: nn.Conv2d(x.shape[1], x.shape[1], 3, padding=1, groups=x.shape[1])),
    "two filters": module(lambda x, n: nn.Conv2d(x.shape[1], 2 * x.shape[1], 1, groups=x.shape[1])),
    "batch norm": module(lambda x, n: nn.BatchNorm2d(x.shape[1])),
    "instance norm": module(lambda x, n: nn.InstanceNorm2d(x.shape[1], affine=True)),
    "layer norm": module(lambda x, n: nn.LayerNorm(x.shape[1:])),
    "relu": plain(F.relu),
    "prelu": module(lambda x, n: nn.PReLU(x.shape[1])),
    "excite": excite,
    "tied": tied,
    "again": again,
    "attention": attention,
    "linear over width": module(lambda x, n: nn.Linear(x.shape[3], n)),
    "norm over width": module(lambda x, n: nn.LayerNorm(x.shape[3])),
    "residual": with_past(lambda x, old: x + old, 0, 1, 2, 3),
    "largest": with_past(lambda x, old: torch.stack([x, old]).amax(0), 0, 1, 2, 3),
    "concatenate": with_past(lambda x, old: torch.cat([x, old], 1), 0, 2, 3),
    "correlate": with_past(lambda x, old: torch.einsum("bchw,bdhw->bcd", x, old)[..., None], 0, 2, 3),
    "scale": scaled(1),
    "scale pixels": scaled(1, 2, 3),
    "softmax": plain(lambda x: x.softmax(1)),
    "center": plain(lambda x: x - x.mean(1, keepdim=True)),
    "pad": plain(lambda x: F.pad(x, (0, 0, 0, 0, 1, 2))),
    "cut": plain(lambda x: x[:, 1:] if x.shape[1] > 2 else x),
    "pool": plain(lambda x: F.adaptive_avg_pool2d(x, 2)),
    "max pool": plain(lambda x: F.max_pool2d(x, 3, 1, 1)),
    "turn": plain(lambda x: x.transpose(1, 2)),
    "merge": plain(lambda x: x.flatten(1, 2)[..., None]),
    "merge channels last": plain(lambda x: x.permute(0, 2, 3, 1).flatten(1, 3)[..., None, None]),
    "repeat": plain(lambda x: x.repeat(1, 2, 1, 1)),
    "interleave": plain(lambda x: x.repeat_interleave(2, 1)),
    "overwrite": plain(lambda x: torch.cat([x, x[:, :1]], 1).clone().index_fill_(1, torch.tensor([0]), 1.0)),
    "in place": plain(lambda x: x.clone().mul_(2).add_(1)),
    "fill": plain(filled),
    "copy": with_past(copied, 0, 2, 3),
    "cumulate": plain(lambda x: x.cumsum(1)),
    "flip": plain(lambda x: x.flip(1)),
}


def step(x, kind, n):
    kinds = IMAGES | (EVEN_CHANNELS if halves(x) else {})
    return [*kinds.values()][kind % len(kinds)](x, n)


HEADS = [
    lambda x: x.flatten(1),
    lambda x: x.permute(0, 2, 3, 1).flatten(1),
    lambda x: x.mean((2, 3)),
    lambda x: x.amax(1).flatten(1),
]
MOST = 400  # numbers a sample; a step that makes more is left out


def build(kinds, head, seed):
    """A network of these steps, and an example input."""
    with seeding.global_rng("random network", seed):
        x = torch.randn(3, 2, 3, 3)
        steps, tensors = [Step(lambda step, x, past: step.part(x), part=nn.Conv2d(2, 4, 1))], [x]
        tensors.append(steps[0](x, []))
        for kind, n in kinds:
            new = step(tensors[-1], kind, n)
            try:
                made = new(tensors[-1], tensors[:-1])
            except ValueError:  # norms refuse a single pixel
                continue
            if made[0].numel() <= MOST:
                steps.append(new)
                tensors.append(made.detach())
        steps.append(plain(HEADS[head])(None, None))
        size = HEADS[head](tensors[-1]).shape[1]
        last = nn.Sequential(nn.Linear(size, 5), nn.ReLU(), nn.Linear(5, 2))
        return Path([*steps, Step(lambda step, x, past: step.part(x), part=last)]), x


def networks(steps=8):
    """Networks with their example inputs."""
    kinds = st.tuples(st.integers(0, 10**4), st.integers(2, 4))
    return st.builds(build, st.lists(kinds, max_size=steps), st.integers(0, len(HEADS) - 1), st.integers(0, 999))
