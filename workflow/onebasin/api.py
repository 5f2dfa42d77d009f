"""Merging one's own networks: load them, find what may be permuted, match, merge, look. `import onebasin` offers it.

    models = onebasin.load_models(["a.pt", "b.pt", "c.pt"], "torchvision.models:resnet18", (3, 32, 32))
    spec = onebasin.symmetries(models)
    permutations = onebasin.match(models, spec)
    merged = onebasin.merge(models, spec, permutations, onebasin.load_data("cifar10"))

The command line is a thin layer over these functions, and they are one over the library that the workflow uses: the
same models, settings, seed and trial give the same bytes. Everything wrong is refused, with an `OnebasinError` of one
line, before the work starts.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from onebasin.config.settings import (
    data_settings,
    method_settings,
    needs_data,
    parse_named,
    reads_targets,
    stage_settings,
)
from onebasin.data import Data, make_data
from onebasin.data import load_data as load_saved_data
from onebasin.errors import OnebasinError
from onebasin.inputs import Inputs, Type, as_shape, in_type_of, shape_text, type_text
from onebasin.matching.search import run_search
from onebasin.measures.merged import evaluate_merged
from onebasin.measures.pairwise import interpolation_curves, pairwise_barriers
from onebasin.merging import average as merging
from onebasin.merging.recalibration import Recalibration, keeps_statistics
from onebasin.models.alike import require_alike
from onebasin.models.canonical import FACT, canonical_models, network_of_form
from onebasin.models.checkpoints import ModelFile, read_model_file, stack
from onebasin.models.objective import objective_named
from onebasin.models.running import forward
from onebasin.models.stack import Models, initial
from onebasin.networks.build import is_canonical_form
from onebasin.networks.copies import copied
from onebasin.networks.examples import example_for, type_taken
from onebasin.networks.named import Network, make_network
from onebasin.parameters import Parameters
from onebasin.registry import CROSS_ENTROPY, entries, resolve
from onebasin.seeding import generator
from onebasin.symmetry.alignment import Alignment, check_elements
from onebasin.symmetry.check import check as check_spec
from onebasin.symmetry.spec import Spec
from onebasin.symmetry.trace import trace as trace_module

AnyShape = Sequence[int] | Mapping[str, Sequence[int]]
AnyObjective = str | Callable[..., Any]


def load_models(
    files: Sequence[str | Path | ModelFile],
    network: Network | None = None,
    input_shape: AnyShape | None = None,
    classes: int | None = None,
    device: torch.device | str = "cpu",
    input_type: Type | None = None,
    skip: Sequence[str] = (),
    canonical: bool = False,
) -> Models:
    """Models from files, as a stack `[N, ...]` per tensor with the network that gives their function.

    Args:
        files: artifacts of this project, safetensors files, or PyTorch files, which are read without running code.
        network: a module, or its name and settings as in `mlp:width=512,depth=3`, `package.module:callable` or
            `torchvision.models:resnet18:num_classes=10`. May be left out for models that the workflow trained, as may
            `input_shape` `(c, h, w)` and `classes`.
        classes: how many logits the network gives; only the built-in ones, and builders that ask, need to know.
        input_shape: of one input, without the batch: `(c, h, w)`; of several inputs, a dictionary by their names.
        input_type: `torch.int64` for a network that takes tokens, or a dictionary. If neither it nor a file says, it is
            float32, or int64 where the network runs on that alone.
        skip: patterns of names (`head.*`) of tensors that all models take from the first one, as their own are of other
            shapes or for other classes. Searches do not see them; the merged model has the first model's.
        canonical: bring them into canonical form (`networks.canonical`), in which residual streams may be rotated.

    Raises:
        OnebasinError: a file cannot be read or its tensors are not the network's (names, shapes, types) or not finite.
    """
    read = [file if isinstance(file, ModelFile) else read_model_file(file) for file in files]
    if not read:
        raise OnebasinError("no models; give at least one file")
    facts = read[0].facts
    if network is None and FACT in facts:
        network, canonical = network_of_form(facts), False
    network = network if network is not None else read[0].network
    if network is None:
        raise OnebasinError(f"{read[0].path}: does not say of which network it is; name the network")
    shape = read[0].input_shape if input_shape is None else as_shape(input_shape)
    if shape is None:
        raise OnebasinError(f"{read[0].path}: does not say for inputs of which shape it is; give it, as in 3,32,32")
    built = make_network(network, shape, classes or facts.get("classes"))
    models = stack(read, built, shape, device, input_type, skip)
    canonical |= isinstance(network, Mapping) and is_canonical_form(network)
    return canonical_models(models) if canonical else models


def load_canonical(path: str | Path, device: torch.device | str = "cpu") -> nn.Module:
    """A model in canonical form as a module that runs: what `merge` wrote of canonical models.

    Raises:
        OnebasinError: the file is missing, damaged, or not of a model in canonical form.
    """
    file = read_model_file(path)
    if FACT not in file.facts:
        raise OnebasinError(f"{path}: not a model in canonical form; load it into the network that it is of")
    network = network_of_form(file.facts)
    network.load_state_dict(dict(file.tensors))
    return network.to(device).eval()


def stack_models(networks: Sequence[nn.Module], input_shape: AnyShape, input_type: Type | None = None) -> Models:
    """Modules of one architecture as a stack, named 0, 1, ...; their values are copied.

    Args:
        input_shape, input_type: as of `load_models`.

    Raises:
        OnebasinError: no modules, or the tensors of two of them differ in name, shape or type, or are not finite.
    """
    if not networks:
        raise OnebasinError("no models; give at least one module")
    if wrong := [type(network).__name__ for network in networks if not isinstance(network, nn.Module)]:
        raise OnebasinError(f"models are nn.Modules, not {wrong[0]}; load files with load_models")
    networks = [network.module if isinstance(network, nn.DataParallel) else network for network in networks]
    files = [ModelFile(Path(f"model {number}"), initial(network)) for number, network in enumerate(networks)]
    if not files[0].tensors:
        raise OnebasinError(f"{type(networks[0]).__name__} has no parameters, so there is nothing to merge")
    device = next(iter(files[0].tensors.values())).device
    models = stack(files, copied(networks[0]), as_shape(input_shape), device, input_type)
    require_alike(models, networks)
    return models


def load_data(
    data: str | Path, size: int | None = None, device: torch.device | str = "cpu", objective: str | None = None
) -> Data:
    """A data set: inputs `[n, ...]` float32 (tokens: int64) and targets `[n]` (or `[n, positions]`) int64 per split.

    Args:
        data: a name with settings (`digits`, `cifar10:root=archives`, `package.module:callable`), a file
            `data.safetensors` of the workflow, or a folder of images, as torchvision's `ImageFolder` but with `train`
            and `test` above the classes.
        size: pixels that the images of a folder are resized and cropped to.
        objective: what networks are judged by on these data, as for `evaluate`.

    Raises:
        OnebasinError: there is no such data set, setting, file or folder, or it is damaged.
    """
    path = Path(data)
    if path.is_file():
        return _judged(load_saved_data(path, device), objective)
    name, given = parse_named(str(data))
    if name not in entries("data") and Path(name).is_dir():
        name, given = "image_folder", {"root": name, **({"size": size} if size else {}), **given}
    elif "/" in name or path.suffix == ".safetensors":
        raise OnebasinError(f"{name}: no such file or folder; name a data set, or a file or folder that is there")
    given |= {} if objective is None else {"objective": objective}
    return make_data(data_settings(name, given)).to(device)


def trace(network: nn.Module, input_shape: AnyShape, input_type: Type | None = None) -> Spec:
    """The permutation groups of a network, and which axes stay, with the reason; found by following its graph.

    An axis is in a group only if its permutation is known to leave the function unchanged (`symmetry.trace`).

    Args:
        input_shape, input_type: as of `load_models`.

    Raises:
        OnebasinError: the network cannot be captured as a graph, or does not accept such an input.
    """
    return trace_module(network, example(network, input_shape, input_type))


def check(network: nn.Module, spec: Spec, input_shape: AnyShape, input_type: Type | None = None) -> float:
    """The largest change of the outputs, relative to their size, when all groups are permuted at random, in float64.

    Rounding makes it about 1e-15; above 1e-9 it is an error (1e-5 where the network casts to float32 on its way).
    Inputs are random and all values get noise (`symmetry.check`).

    Raises:
        OnebasinError: permuting changes the function; the message names the groups and tensors.
    """
    return check_spec(network, spec, example(network, input_shape, input_type), generator("symmetries"))


def symmetries(models: Models, data: Data | None = None) -> Spec:
    """What may be permuted in the network of the models: traced, and proven by `check`.

    Args:
        data: what example inputs are taken from, where they are no plain numbers but tokens or masks.

    Raises:
        OnebasinError: the network cannot be traced, its function is not preserved, or nothing in it may be permuted.
    """
    inputs = models.example_input if data is None else in_type_of(data.example(), models[0])
    spec = trace_module(models.network, inputs)
    if not spec.groups:
        reasons = "; ".join(sorted({fixed.reason for fixed in spec.fixed}))
        raise OnebasinError(f"nothing in this network may be permuted ({reasons}); `onebasin trace` says why, by axis")
    check_spec(models.network, spec, inputs, generator("symmetries"))
    return spec


def match(
    models: Models,
    spec: Spec,
    method: str = "weight_matching",
    data: Data | None = None,
    seed: int = 0,
    trial: int = 0,
    **settings: Any,
) -> Alignment:
    """Search the permutations that bring the models together.

    Args:
        method: `naive`, `weight_matching` (Ainsworth et al. 2023), `ste`, `ste_mm` (Ito et al. 2025), ..., or one of
            your own, as `package.module:callable`.
        data: for methods that read more than weights.
        seed: root of the random streams; with `trial` it decides what the method draws. As in the workflow's
            experiments.
        settings: of the method; the others have the values that the configuration's schema gives them.

    Returns:
        A permutation `[N, n]` int64 of every group: new unit i of model k is its old unit `indices[group][k, i]`.

    Raises:
        OnebasinError: there is no such method or setting, the method needs data, the data do not fit the network,
            there are fewer than two models, or a method of your own returns something else.
    """
    settings = method_settings(method, settings)
    if len(models) < 2:
        raise OnebasinError("one model has nothing to be matched to; give at least two")
    if needs_data(method) and data is None:
        raise OnebasinError(f"{method} reads training data; give the data, or take a method that reads weights alone")
    if data is not None and reads_targets(method):
        check_data(models, data)
    elif data is not None:
        check_inputs(models, data)
    found = run_search(resolve("method", method), method, models, spec, data, settings, seed, trial)
    if not isinstance(found, Alignment):
        raise OnebasinError(f"{method} gave {type(found).__name__}; a method has to return Alignment")
    check_elements(found.elements, spec, len(models), method)
    return found


def permute(models: Models, spec: Spec, permutations: Alignment) -> Models:
    """The models with their units in their new order; each computes what it computed before.

    Raises:
        OnebasinError: these are not permutations of the groups for so many models.
    """
    check_elements(permutations.elements, spec, len(models), "permutations")
    return merging.aligned_models(models, spec, permutations)


def merge(
    models: Models,
    spec: Spec,
    permutations: Alignment,
    data: Data | None = None,
    normalization: str | None = "recompute",
    images: int | None = None,
) -> Parameters:
    """The average of the permuted models, weights 1/N: the parameters and buffers of one model by name.

    Args:
        data: training data to measure activations on. Only `recompute` in a network without running statistics, and
            None, do without.
        normalization: `recompute` measures BatchNorm's running statistics anew, and what else training updates;
            `repair` also rescales every channel (Jordan et al. 2023); None leaves the averages as they are.
        images: how many training images that takes; all, if None.

    Raises:
        OnebasinError: these are not permutations for these models, or data are needed or do not fit.
    """
    check_elements(permutations.elements, spec, len(models), "permutations")
    return merging.merge(models, spec, permutations, recalibration_of(models, data, normalization, images))


def evaluate(models: Models, merged: Parameters, data: Data, objective: AnyObjective | None = None) -> pd.DataFrame:
    """Loss (mean cross-entropy, nats) and accuracy (in [0, 1]) of a merged model, its parents and their ensemble.

    Args:
        objective: what else networks are judged by, if not by what the data say: `mean_squared_error`, a function
            `(outputs, targets) -> loss` (the mean, a tensor) or `-> (loss, accuracy)`, or its name as
            `package.module:callable`. What it does not say is NaN.

    Returns:
        A row a split (`train`, `test`): `loss`, `accuracy`, and the same with `parents_` (mean over the models) and
        `ensemble_` (of the parents' averaged probabilities); `barrier_loss` = loss - parents' mean loss, and
        `barrier_accuracy` the other way round.

    Raises:
        OnebasinError: the data do not fit the network.
    """
    data = _judged(data, objective)
    check_data(models, data)
    return evaluate_merged(models, merged, data)


def barrier(
    permuted: Models,
    data: Data,
    points: int | None = None,
    normalization: str | None = "recompute",
    images: int | None = None,
    objective: AnyObjective | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Loss and accuracy on the line between every two models, and the barriers (Frankle et al. 2020).

    Args:
        permuted: the models, in the order in which they are to be looked at (`permute`).
        points: on a line, the ends included; the schema's number if None.
        normalization: what is done to the points between the ends, as for `merge`.
        objective: as for `evaluate`.

    Returns:
        Curves `split, model_a, model_b, weight_b, loss, accuracy`, and barriers `split, model_a, model_b,
        barrier_loss, barrier_accuracy`: the largest excess over the straight line between the ends. Losses are in
        nats, accuracies in [0, 1].

    Raises:
        OnebasinError: fewer than two models, or the data do not fit the network.
    """
    if len(permuted) < 2:
        raise OnebasinError("a line has two ends; give at least two models")
    data = _judged(data, objective)
    check_data(permuted, data)
    points = stage_settings("interpolation", points=points)["points"]
    curves = interpolation_curves(permuted, data, points, recalibration_of(permuted, data, normalization, images))
    return curves, pairwise_barriers(curves)


def recalibration_of(
    models: Models, data: Data | None, normalization: str | None, images: int | None = None
) -> Recalibration | None:
    """What is done to averages before they are used; None if nothing.

    Raises:
        OnebasinError: it takes data, and there are none, or they do not fit the network.
    """
    if normalization is None:
        return None
    if normalization == "recompute" and not keeps_statistics(models.network, models[0], models.example_input):
        return None
    settings = stage_settings("normalization", method=normalization, images=images)
    if data is None:
        why = "REPAIR measures activations" if normalization == "repair" else "running statistics are measured anew"
        raise OnebasinError(f"{why} on training data after averaging; give the data, or normalization none")
    check_inputs(models, data)
    return Recalibration(models.network, data.train, settings)


@torch.no_grad()
def count_classes(models: Models) -> int | None:
    """How many logits the network gives; None if what it gives is none: no tensor `[n, classes, ...]`.

    Raises:
        OnebasinError: it does not run on a batch of its inputs.
    """
    output = _outputs(models, models.example_input)
    return output.shape[1] if isinstance(output, torch.Tensor) and output.dim() > 1 else None


def check_inputs(models: Models, data: Data) -> None:
    """Refuse data whose inputs the network does not take, or that are unsound; nothing is asked of their targets."""
    if not isinstance(data, Data):
        raise OnebasinError(f"data: a {type(data).__name__}; load_data gives Data, and so does onebasin.data.Data(...)")
    if data.input_fault is not None:
        raise OnebasinError(data.input_fault)
    if data.input_shape != models.input_shape:
        have, want = map(shape_text, (data.input_shape, models.input_shape))
        raise OnebasinError(f"the data's inputs are {have}, the network takes {want}; give the data it was trained on")
    if _are_numbers(data.input_type) != _are_numbers(models.input_type):
        own, taken = map(type_text, (data.input_type, models.input_type))
        raise OnebasinError(
            f"the data's inputs are {own}, the models' {taken}; give the data that they were trained on, or say the "
            f"models' input_type where they are loaded"
        )


@torch.no_grad()
def check_data(models: Models, data: Data) -> None:
    """Refuse data as `check_inputs`, and those by whose objective the network's outputs cannot be judged."""
    if models.skipped:
        raise OnebasinError(
            f"models whose {models.skipped[0]} is the first one's cannot be judged by their outputs; take a method "
            f"that reads weights or inputs alone, and evaluate the merged model by itself"
        )
    check_inputs(models, data)
    if data.fault is not None:
        raise OnebasinError(data.fault)
    some = data.test.first(2)
    outputs = _outputs(models, some.inputs)
    objective_named(data.objective).loss(outputs, some.targets)
    if data.objective == CROSS_ENTROPY and outputs.shape[1] < data.classes:
        raise OnebasinError(
            f"the data have {data.classes} classes, the network has {outputs.shape[1]} logits; give the data it was "
            f"trained on"
        )


def _judged(data: Data, objective: Any) -> Data:
    return data if objective is None or not isinstance(data, Data) else data.judged_by(objective)


def _outputs(models: Models, inputs: Inputs) -> Any:
    try:
        return forward(models.network, models[0], inputs)
    except Exception as error:  # the user's network may refuse in any way
        kind, line = type(models.network).__name__, (str(error).splitlines() or [""])[0]
        raise OnebasinError(
            f"{kind} does not accept inputs of shape {shape_text(models.input_shape)}: {line}"
        ) from None


def _are_numbers(kind: Type) -> Any:
    """Whether inputs are numbers, not tokens or masks; of several inputs, each by its name."""
    if isinstance(kind, dict):
        return {name: own.is_floating_point for name, own in kind.items()}
    return kind.is_floating_point


def example(network: nn.Module, input_shape: AnyShape, input_type: Type | None) -> Inputs:
    """A batch of two inputs where the network is (`networks.examples`)."""
    device = next((tensor.device for tensor in initial(network).values()), torch.device("cpu"))
    shape = as_shape(input_shape)
    return example_for(network, shape, input_type or type_taken(network, shape, device), device)
