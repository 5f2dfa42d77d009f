"""Options that several subcommands share, and what their texts mean. Nothing here imports torch."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from onebasin.errors import OnebasinError
from onebasin.machine.devices import NAMES
from onebasin.registry import function_of

Command = Callable[..., Any]

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
TYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
UNJUDGED = "none"  # the objective of who wants no evaluation
NORMALIZATIONS = ("recompute", "repair", "none")


class Shape(click.ParamType):
    """`3,32,32` or `3x32x32`: the shape of one input, without the batch."""

    name = "c,h,w"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The sizes as whole numbers above 0."""
        if isinstance(value, tuple):
            return value
        parts = value.replace("x", ",").split(",")
        if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
            self.fail(f"'{value}' is no shape; write the sizes of one input, as in 3,32,32", param, ctx)
        return tuple(map(int, parts))


class Input(Shape):
    """One input of the network: `3,32,32`, with a type `int64:16`, with a name `mask=bool:16`."""

    name = "[NAME=][TYPE:]SIZES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The name (or None), the type (or None) and the sizes."""
        if isinstance(value, tuple):
            return value
        name, _, rest = value.rpartition("=")
        kind, _, sizes = rest.rpartition(":")
        if name and not name.isidentifier():
            self.fail(f"'{name}' is no name of an input; write it as the network's forward does", param, ctx)
        if kind and kind not in TYPES:
            self.fail(f"'{kind}' is no type of inputs; known: {', '.join(TYPES)}", param, ctx)
        return name or None, kind or None, super().convert(sizes, param, ctx)


def read_inputs(given: Sequence[tuple[str | None, str | None, tuple[int, ...]]]) -> tuple[Any, Any]:
    """The shape and the type of the network's inputs, as `onebasin.inputs` has them; None for what is not said.

    Raises:
        UsageError: several inputs that do not all have a name, or one name twice.
    """
    from onebasin.inputs import as_type

    if not given:
        return None, None
    if len(given) == 1 and given[0][0] is None:
        _, kind, shape = given[0]
        return shape, None if kind is None else as_type(kind)
    names = [name for name, _, _ in given]
    if None in names or len(set(names)) < len(names):
        raise click.UsageError("several inputs need a name each, as in --input ids=int64:16 --input mask=bool:16")
    shapes, types = {name: shape for name, _, shape in given}, {name: kind or "float32" for name, kind, _ in given}
    return shapes, as_type(types)


class Method(click.ParamType):
    """A permutation search by name."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name, if there is such a method."""
        try:
            function_of("method", value)
        except OnebasinError as error:
            self.fail(str(error), param, ctx)
        return str(value)


def model_files(command: Command) -> Command:
    """The models, as arguments."""
    return click.argument("files", metavar="MODELS...", nargs=-1, required=True, type=FILE)(command)


def canonical_option(command: Command) -> Command:
    """Whether networks are brought into canonical form."""
    return click.option(
        "--canonical",
        is_flag=True,
        help="Bring pre-norm transformers into canonical form, in which residual streams may be rotated, too; what is "
        "written is for onebasin.load_canonical.",
    )(command)


def network_options(command: Command) -> Command:
    """What network the models are of; all may be left out for models that the workflow trained."""
    command = canonical_option(command)
    command = click.option(
        "--classes", type=click.IntRange(min=1), help="Number of logits, where neither files nor data tell it."
    )(command)
    command = input_option("Shape of one input, where neither files nor data tell it", required=False)(command)
    command = click.option(
        "--key", help="Which state dict to take of PyTorch files that hold several, such as state_dict_ema."
    )(command)
    return click.option(
        "--network",
        metavar="NAME[:KEY=VALUE,...]",
        help="mlp:width=512,depth=3, resnet20, vgg11, or your own as package.module:callable.",
    )(command)


def skip_option(command: Command) -> Command:
    """What the models do not have in common."""
    return click.option(
        "--skip",
        metavar="PATTERN",
        multiple=True,
        help="Tensors, as in 'head.*', that all take from the first model, such as heads for other classes; then "
        "nothing is evaluated.",
    )(command)


def input_option(what: str, required: bool) -> Callable[[Command], Command]:
    """What the network takes in."""
    return click.option(
        "--input",
        "inputs",
        type=Input(),
        multiple=True,
        required=required,
        help=f"{what}: 3,32,32; of tokens int64:16; of several, each with its name: ids=int64:16.",
    )


def verbose_option(command: Command) -> Command:
    """Whether the long lists are printed."""
    return click.option("--verbose", is_flag=True, help="List every tensor and axis, what moves it or why it stays.")(
        command
    )


def data_option(required: bool) -> Callable[[Command], Command]:
    """The data set, and what networks are judged by on it."""

    def options(command: Command) -> Command:
        return _data(required)(_objective(command))

    return options


def _objective(command: Command) -> Command:
    return click.option(
        "--objective",
        metavar="NAME",
        help="cross_entropy, mean_squared_error, or your own as package.module:callable, a function (outputs, targets) "
        "-> loss; as the data say if not given; none, to judge nothing.",
    )(command)


def _data(required: bool) -> Callable[[Command], Command]:
    return click.option(
        "--data",
        required=required,
        metavar="NAME[:KEY=VALUE,...]",
        help="digits, glyphs, mnist, cifar10, ..., package.module:callable, a folder of images (train/<class>/*, "
        "test/<class>/*), or a data.safetensors of the workflow.",
    )


def search_options(command: Command) -> Command:
    """The method, its settings and its randomness."""
    command = click.option(
        "--trial", default=0, type=click.IntRange(min=0), help="Number of the trial: other random draws."
    )(command)
    command = click.option("--seed", default=0, type=click.IntRange(min=0), help="Root of the random draws.")(command)
    command = click.option(
        "--set",
        "given",
        metavar="KEY=VALUE",
        multiple=True,
        help="A setting of the method, e.g. epochs=10. Others are as in config/README.md.",
    )(command)
    return click.option(
        "--method",
        type=Method(),
        default="weight_matching",
        show_default=True,
        help="naive, weight_matching, ste, ste_mm, ..., or your own as package.module:callable.",
    )(command)


def normalization_options(command: Command) -> Command:
    """What is done to averages before they are used."""
    command = click.option(
        "--normalization-images",
        "normalization_images",
        type=click.IntRange(min=1),
        help="How many training images that takes (all, if not given).",
    )(command)
    return click.option(
        "--normalization",
        type=click.Choice(NORMALIZATIONS),
        default="recompute",
        show_default=True,
        help="Measure BatchNorm statistics of averages anew, rescale channels as well (REPAIR), or neither.",
    )(command)


def compute_options(command: Command) -> Command:
    """Where and on how many threads torch computes."""
    command = click.option(
        "--threads",
        type=click.IntRange(min=1),
        help="Threads of torch; the last bits of results depend on it. As in the workflow, one if not given.",
    )(command)
    return click.option("--device", type=click.Choice(NAMES), help="Where to compute; the CPU if not given.")(command)


def output_option(what: str, required: bool = True, folder: bool = False) -> Callable[[Command], Command]:
    """Where the result goes."""
    return click.option(
        "-o",
        "--output",
        required=required,
        type=click.Path(path_type=Path),
        metavar="FOLDER" if folder else "FILE",
        help=what,
    )
