"""Models: networks of one architecture as a stack, a leading model axis on every parameter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from onebasin import artifacts, seeding
from onebasin.errors import OnebasinError
from onebasin.layouts import prefer_channels_last
from onebasin.networks import build_network
from onebasin.products import fast_linear
from onebasin.symmetry.apply import Parameters


@dataclass(frozen=True)
class Models:
    """N models: `network` gives the function of an input `[n, *input_shape]`, `parameters` the values `[N, ...]`,
    `seeds` their names."""

    network: nn.Module
    parameters: Parameters
    seeds: tuple[int, ...]
    input_shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, model: int) -> Parameters:
        """The parameters of one model."""
        return one(self.parameters, model)

    @property
    def weights(self) -> Parameters:
        """The values of what is trained; `parameters` holds running statistics and counters as well."""
        return {name: self.parameters[name] for name, _ in self.network.named_parameters()}

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(iter(self.parameters.values())).device

    @property
    def example_input(self) -> Tensor:
        """A batch of two images of zeros, of the shape the network takes."""
        return torch.zeros(2, *self.input_shape, device=self.device)

    def first(self, count: int) -> "Models":
        """The first `count` models."""
        few = {name: tensor[:count] for name, tensor in self.parameters.items()}
        return replace(self, parameters=few, seeds=self.seeds[:count])


def one(stack: Mapping[str, Tensor], model: int) -> Parameters:
    """The parameters of model number `model` of a stack (views)."""
    return {name: tensor[model] for name, tensor in stack.items()}


def stacked(models: Sequence[Mapping[str, Tensor]]) -> Parameters:
    """A stack `[N, ...]` of the given models' parameters."""
    return {name: torch.stack([model[name] for model in models]) for name in models[0]}


def mean(stack: Mapping[str, Tensor]) -> Parameters:
    """The plain average over the models of a stack; of what is counted, not measured, the first model's."""
    return {name: tensor.mean(dim=0) if tensor.is_floating_point() else tensor[0] for name, tensor in stack.items()}


def initial(network: nn.Module) -> Parameters:
    """The parameters that the network object itself holds (detached)."""
    return {name: tensor.detach() for name, tensor in network.state_dict().items()}


def forward(network: nn.Module, parameters: Parameters, images: Tensor) -> Tensor:
    """Logits `[n, classes]` of the network with the given parameters."""
    with fast_linear():
        return functional_call(network, parameters, (images,))


def new_network(settings: Mapping[str, Any], input_shape: tuple[int, ...], classes: int, *key: int | str) -> nn.Module:
    """A network whose initial parameters are drawn from the stream named by `key`."""
    with seeding.global_rng(*key):
        network = build_network(settings, input_shape, classes)
    prefer_channels_last(network, input_shape)
    return network


def load_models(
    paths: Sequence[str | Path],
    network_settings: Mapping[str, Any],
    device: torch.device | str = "cpu",
    made: Mapping[str, Any] | None = None,
) -> Models:
    """Checkpoints (artifacts of kind `model`) as a stack, with the network that the settings name.

    The shape of its input and the number of classes are read from the first checkpoint.

    Args:
        made: if given, how each of them has to have been made, and then a file `seed-<seed>` holds the model of that
            seed.

    Raises:
        OnebasinError: a file is missing or damaged, of another seed or experiment, or its tensors are not those of the
            network.
    """
    loaded = [
        artifacts.load(path, "model", ("seed", "input_shape", "classes"), _expected(path, made)) for path in paths
    ]
    facts = loaded[0].facts
    # the values drawn here are never used: the checkpoints' take their place
    input_shape = tuple(facts["input_shape"])
    network = new_network(network_settings, input_shape, facts["classes"], "unused").to(device).eval()
    for path, artifact in zip(paths, loaded, strict=True):
        check_fit(artifact.tensors, network, path)
    seeds = tuple(int(artifact.facts["seed"]) for artifact in loaded)
    parameters = {name: tensor.to(device) for name, tensor in stacked([a.tensors for a in loaded]).items()}
    return Models(network, parameters, seeds, input_shape)


def _expected(path: str | Path, made: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if made is None else {"seed": int(Path(path).stem.removeprefix("seed-")), "made": made}


def save_model(
    path: str | Path, models: Models, model: int, classes: int, made: Mapping[str, Any], **facts: Any
) -> None:
    """Write one of the models as a checkpoint (artifact of kind `model`); `made` says how it came about."""
    own = {"seed": models.seeds[model], "input_shape": models.input_shape, "classes": classes, "made": made}
    artifacts.save(path, "model", models[model], **own, **facts)


def load_merged(
    path: str | Path,
    network: nn.Module,
    device: torch.device | str = "cpu",
    merging: Mapping[str, Any] | None = None,
) -> Parameters:
    """The parameters of a merged model (artifact of kind `merged`), of the `merging` of these facts (method, trial,
    models) if given; errors as for `load_models`."""
    artifact = artifacts.load(path, "merged", expected=merging)
    check_fit(artifact.tensors, network, path)
    return {name: tensor.to(device) for name, tensor in artifact.tensors.items()}


def check_fit(tensors: Mapping[str, Tensor], network: nn.Module, path: str | Path) -> None:
    """Refuse tensors that are not the network's: other names, shapes or types, or values that are not finite."""
    expected = network.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors:
            raise OnebasinError(f"{path}: has no tensor {name}; it is of another network, or of other settings")
        if name not in expected:
            raise OnebasinError(f"{path}: has a tensor {name} that the network lacks; give a matching file")
        if tensors[name].shape != expected[name].shape:
            have, want = tuple(tensors[name].shape), tuple(expected[name].shape)
            raise OnebasinError(f"{path}: {name} is {have}, the network's is {want}; give a matching file")
        if tensors[name].dtype != expected[name].dtype:
            raise OnebasinError(f"{path}: {name} is {tensors[name].dtype}, expected {expected[name].dtype}; convert it")
        if not bool(torch.isfinite(tensors[name]).all()):
            raise OnebasinError(f"{path}: {name} holds NaN or infinity; train that model again")
