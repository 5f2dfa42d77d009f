"""Models as files that people bring: artifacts of this project, or state dicts that anybody wrote.

An artifact says of itself which network it is of, for inputs of which shape; a state dict says nothing, so these have
to be given. Models of artifacts are named by their seeds, others by their place in the list.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn

from onebasin.errors import OnebasinError
from onebasin.models.stack import Models
from onebasin.networks.build import new_network
from onebasin.parameters import Parameters, stacked
from onebasin.storage import artifacts
from onebasin.storage.state_dicts import read_state_dict

logger = logging.getLogger(__name__)

FLOAT = "float32"  # the type of inputs that goes without saying
KINDS = ("model", "merged")  # kinds of artifacts that are parameters of a network


@dataclass(frozen=True)
class ModelFile:
    """A file's tensors, and what it says of itself (`facts`: `seed`, `input_shape`, `classes`, `made`, ...)."""

    path: Path
    tensors: Parameters
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def network(self) -> dict[str, Any] | None:
        """The settings of the network that it was trained as, if it says so."""
        made = self.facts.get("made")
        return made.get("network") if isinstance(made, Mapping) else None


def read_model_file(path: str | Path) -> ModelFile:
    """Read a model: an artifact of kind `model` or `merged`, or a state dict (`state_dicts.read_state_dict`).

    Raises:
        OnebasinError: it cannot be read, is damaged, or is an artifact of another kind.
    """
    path = Path(path)
    header = read_header(path)
    if header is None:
        return ModelFile(path, read_state_dict(path))
    kind = header.get("kind")
    artifact = artifacts.load(path, kind if kind in KINDS else "model")
    return ModelFile(path, artifact.tensors, artifact.facts)


def read_header(path: str | Path) -> dict[str, Any] | None:
    """What an artifact says of itself, before its checksum is looked at; None for any other file."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[artifacts.HEADER_KEY])
    except (safetensors.SafetensorError, OSError, ValueError, KeyError):
        return None
    return header if isinstance(header, dict) else None


def stack(
    files: Sequence[ModelFile],
    network: nn.Module,
    input_shape: Sequence[int],
    device: torch.device | str = "cpu",
    input_type: torch.dtype = torch.float32,
) -> Models:
    """The files' tensors as a stack of models of one network.

    Raises:
        OnebasinError: a file's tensors are not the network's (`fitted`).
    """
    models = [fitted(file.tensors, network, file.path) for file in files]
    parameters = {name: tensor.to(device) for name, tensor in stacked(models).items()}
    return Models(network.to(device).eval(), parameters, names_of(files), tuple(input_shape), input_type)


def fitted(tensors: Mapping[str, Tensor], network: nn.Module, path: str | Path) -> Parameters:
    """The tensors as the network holds them. Half precision becomes the network's type, which changes no value.

    Raises:
        OnebasinError: names, shapes or types are not the network's, or values are not finite (`check_fit`).
    """
    exact, widened = dict(tensors), set()
    for name, own in network.state_dict().items():
        if name in exact and _is_narrower(exact[name].dtype, own.dtype):
            widened.add(f"{exact[name].dtype} to {own.dtype}")
            exact[name] = exact[name].to(own.dtype)
    for change in sorted(widened):
        logger.info("%s: converted from %s, which is exact", path, change)
    check_fit(exact, network, path)
    return exact


def _is_narrower(given: torch.dtype, own: torch.dtype) -> bool:
    """Whether every value of one floating-point type is one of the other as well, and they differ."""
    return given.is_floating_point and given != own and torch.promote_types(given, own) == own


def origin(path: str | Path) -> dict[str, str]:
    """Where a model is from: its path as given, and the SHA-256 of the file."""
    with Path(path).open("rb") as file:
        return {"source": str(path), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def names_of(files: Sequence[ModelFile]) -> tuple[int, ...]:
    """The seeds of the models, or their places in the list where a seed is unknown or not one model's alone."""
    seeds = [file.facts.get("seed") for file in files]
    if all(type(seed) is int for seed in seeds) and len(set(seeds)) == len(seeds):
        return tuple(seed for seed in seeds if seed is not None)
    return tuple(range(len(files)))


def identities(files: Sequence[ModelFile]) -> dict[str, Any]:
    """Facts that tell whether permutations were made for these models: nothing where seeds name them."""
    if names_of(files) == tuple(file.facts.get("seed") for file in files):
        return {}
    return {"checksums": [checksum_of(file) for file in files]}


def checksum_of(file: ModelFile) -> str:
    """SHA-256 over names, types, shapes and bytes of a file's tensors, whatever the format that they are stored in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(file.tensors.items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        if tensor.numel():
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_identities(facts: Mapping[str, Any], files: Sequence[ModelFile], path: str | Path) -> None:
    """Refuse permutations whose facts say that they were made for other models, or for these in another order."""
    if facts.get("checksums") != identities(files).get("checksums"):
        raise OnebasinError(
            f"{path}: made for other models, or for these in another order; give the files as they were matched"
        )


def load_models(
    paths: Sequence[str | Path],
    network_settings: Mapping[str, Any],
    device: torch.device | str = "cpu",
    made: Mapping[str, Any] | None = None,
) -> Models:
    """Checkpoints (artifacts of kind `model`) as a stack, with the network that the settings name.

    The shape and type of its input and the number of classes are read from the first checkpoint.

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
    return Models(network, parameters, seeds, input_shape, input_type_of(facts, paths[0]))


def input_type_of(facts: Mapping[str, Any], path: str | Path) -> torch.dtype:
    """The type of a model's inputs as its file says it: float32 if it says nothing.

    Raises:
        OnebasinError: there is no such type.
    """
    name = facts.get("input_type", FLOAT)
    found = getattr(torch, name, None) if isinstance(name, str) else None
    if not isinstance(found, torch.dtype):
        raise OnebasinError(f"{path}: input_type {name} in its header is no type of tensors; {artifacts.REMAKE}")
    return found


def _expected(path: str | Path, made: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if made is None else {"seed": int(Path(path).stem.removeprefix("seed-")), "made": made}


def save_model(
    path: str | Path, models: Models, model: int, classes: int, made: Mapping[str, Any], **facts: Any
) -> None:
    """Write one of the models as a checkpoint (artifact of kind `model`); `made` says how it came about."""
    own = {"seed": models.seeds[model], "input_shape": models.input_shape, "classes": classes, "made": made}
    if (kind := str(models.input_type).removeprefix("torch.")) != FLOAT:  # older files say nothing
        own["input_type"] = kind
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
