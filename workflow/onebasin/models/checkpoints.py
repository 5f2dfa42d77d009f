"""Models as files: artifacts of this project, or state dicts that anybody wrote.

An artifact says of itself which network it is of, for inputs of which shape; a state dict says nothing, so these have
to be given. `read_model_file` reads a file of either, `stack` makes models of files. Models of artifacts are named by
their seeds, others by their place in the list.
"""

import difflib
import fnmatch
import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod

from onebasin.errors import OnebasinError
from onebasin.inputs import Shape, Type, as_shape, as_type, types_for
from onebasin.models.canonical import FLOAT, canonical_models, form_facts, type_facts
from onebasin.models.stack import Models, initial
from onebasin.networks.build import is_canonical_form, new_network
from onebasin.networks.copies import copied
from onebasin.networks.examples import type_taken
from onebasin.parameters import Parameters, is_finite, stacked
from onebasin.storage import artifacts
from onebasin.storage.digests import of_file, of_tensors
from onebasin.storage.state_dicts import EXTRA, read_state_dict

logger = logging.getLogger(__name__)

KINDS = ("model", "merged")  # kinds of artifacts that are parameters of a network
COUNTER = "num_batches_tracked"  # of BatchNorm; files from before torch 0.4.1 lack it
PARALLEL = re.compile(r"(^|\.)module\.")  # what DataParallel puts around a part of a network


@dataclass(frozen=True)
class ModelFile:
    """A file's tensors, and what it says of itself (`facts`: `seed`, `input_shape`, `classes`, `recipe`, ...)."""

    path: Path
    tensors: Parameters
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def network(self) -> dict[str, Any] | None:
        """The settings of the network that it was trained as, if it says so."""
        recipe = self.facts.get("recipe")
        return recipe.get("network") if isinstance(recipe, Mapping) else None

    @property
    def input_shape(self) -> Shape | None:
        """The shape of the network's inputs, if the file says it."""
        given = self.facts.get("input_shape")
        return None if given is None else as_shape(given)

    @property
    def input_type(self) -> Type | None:
        """The type of the network's inputs: what the file says, or float32 where it says their shape; None if neither.

        Raises:
            OnebasinError: there is no such type.
        """
        name = self.facts.get("input_type", FLOAT if "input_shape" in self.facts else None)
        if as_type(name) is None and "input_type" in self.facts:
            raise OnebasinError(
                f"{self.path}: input_type {name} in its header is no type of tensors; {artifacts.REMAKE}"
            )
        return as_type(name)


def read_model_file(
    path: str | Path,
    kind: str | None = None,
    facts: Iterable[str] = (),
    expected: Mapping[str, Any] | None = None,
    key: str | None = None,
) -> ModelFile:
    """Read a model: an artifact of kind `model` or `merged`, or a state dict (`state_dicts.read_state_dict`).

    Args:
        kind: if given, an artifact of this kind and nothing else; with `facts` and `expected` of `artifacts.load`.
        key: which state dict to take of a PyTorch file that holds several.

    Raises:
        OnebasinError: it cannot be read, is damaged, is an artifact of another kind, or made in another way.
    """
    if kind is None:
        header = read_header(path)
        if header is None:
            return ModelFile(Path(path), read_state_dict(path, key))
        kind = header["kind"] if header.get("kind") in KINDS else "model"
    artifact = artifacts.load(path, kind, facts, expected)
    return ModelFile(Path(path), artifact.tensors, artifact.facts)


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
    input_shape: Shape,
    device: torch.device | str = "cpu",
    input_type: Type | None = None,
    skip: Sequence[str] = (),
) -> Models:
    """The files' tensors as a stack of models of one network; the type of its inputs, if not given, is what the first
    file says or the network takes (`type_taken`).

    Args:
        skip: patterns (`head.*`) of tensors that all models have as the first one has them (`Models.skipped`).

    Raises:
        OnebasinError: a file's tensors are not the network's (`fitted`), or no tensor matches a pattern.
    """
    given = {tensor.dtype for tensor in files[0].tensors.values() if tensor.is_floating_point()}
    if given == {torch.float64} and {tensor.dtype for tensor in network.parameters()} == {torch.float32}:
        logger.info("%s: is in float64, and so is the network then", files[0].path)
        network = network.double()
    for name, part in network.named_modules():
        if any(isinstance(hook, BasePruningMethod) for hook in part._forward_pre_hooks.values()):
            raise OnebasinError(
                f"{name} is pruned by a mask, and an average of masked weights is not one of weights and masks; make "
                f"it permanent (torch.nn.utils.prune.remove)"
            )
    skipped = _matching(initial(network), skip)
    models = [fitted(files[0].tensors, network, files[0].path)]
    kept = {name: models[0][name] for name in skipped}
    models += [fitted(file.tensors, network, file.path, kept, skip) for file in files[1:]]
    parameters = {name: tensor.to(device) for name, tensor in stacked(models).items()}
    network = network.to(device).eval()
    kind = input_type or files[0].input_type or type_taken(network, input_shape, device)
    return Models(network, parameters, names_of(files), input_shape, types_for(input_shape, kind), skipped)


def _matching(tensors: Mapping[str, Tensor], patterns: Sequence[str]) -> tuple[str, ...]:
    """The names that match one of the patterns, each of which has to match one."""
    for pattern in patterns:
        if not any(_matches(name, [pattern]) for name in tensors):
            close = ", ".join(difflib.get_close_matches(pattern, tensors, n=3, cutoff=0))
            raise OnebasinError(f"skip '{pattern}': no tensor of the network is called so; nearest: {close}")
    return tuple(name for name in tensors if _matches(name, patterns))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def load_models(
    paths: Sequence[str | Path],
    network_settings: Mapping[str, Any],
    device: torch.device | str = "cpu",
    recipe: Mapping[str, Any] | None = None,
) -> Models:
    """Artifacts of kind `model` as a stack, with the network that the settings name.

    The shape and type of its input and the number of classes are read from the first one.

    Args:
        recipe: if given, how each of them has to have been made, and then a file `seed-<seed>` holds the model of that
            seed.

    Raises:
        OnebasinError: a file is missing or damaged, of another seed or experiment, or its tensors are not those of the
            network.
    """
    files = []
    for path in paths:
        expected = {} if recipe is None else {"seed": int(Path(path).stem.removeprefix("seed-")), "recipe": recipe}
        files.append(read_model_file(path, "model", ("seed", "input_shape", "classes"), expected))
    input_shape, classes = as_shape(files[0].facts["input_shape"]), files[0].facts["classes"]
    # the values drawn here are never used: the files' take their place
    models = stack(files, new_network(network_settings, input_shape, classes, "unused"), input_shape, device)
    return canonical_models(models) if is_canonical_form(network_settings) else models


def load_merged(
    path: str | Path, network: nn.Module, device: torch.device | str = "cpu", merging: Mapping[str, Any] | None = None
) -> Parameters:
    """The parameters of a merged model (artifact of kind `merged`), of the `merging` of these facts (method, trial,
    models) if given; errors as for `load_models`."""
    tensors = fitted(read_model_file(path, "merged", expected=merging).tensors, network, path)
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def save_model(
    path: str | Path, models: Models, model: int, classes: int | None, recipe: Mapping[str, Any], **facts: Any
) -> None:
    """Write one of the models as a checkpoint (artifact of kind `model`); `recipe` says how it came about."""
    own: dict[str, Any] = {"seed": models.seeds[model], "input_shape": models.input_shape, "classes": classes}
    own["recipe"] = recipe
    own |= {**type_facts(models.input_type), **form_facts(models)}
    artifacts.save(path, "model", models[model], **own, **facts)


def fitted(
    tensors: Mapping[str, Tensor],
    network: nn.Module,
    path: str | Path,
    kept: Mapping[str, Tensor] | None = None,
    skip: Sequence[str] = (),
) -> Parameters:
    """The tensors as the network holds them. Half precision becomes the network's type, which changes no value.

    What wrappers put around names is taken off, and names of old are translated by the modules' own rules of loading.

    Args:
        kept: tensors that take the place of the file's own, which may have other shapes, or be missing.
        skip: patterns of the names of what else is left out in the file.

    Raises:
        OnebasinError: names, shapes or types are not the network's, or values are not finite (`check_fit`).
    """
    exact, widened = _in_its_names(tensors, network, path, kept or {}, skip), set()
    for name, own in initial(network).items():
        if name in exact and _is_narrower(exact[name].dtype, own.dtype):
            widened.add(f"{exact[name].dtype} to {own.dtype}")
            exact[name] = exact[name].to(own.dtype)
    for change in sorted(widened):
        logger.info("%s: converted from %s, which is exact", path, change)
    check_fit(exact, network, path)
    return exact


def _in_its_names(
    tensors: Mapping[str, Tensor],
    network: nn.Module,
    path: str | Path,
    kept: Mapping[str, Tensor],
    skip: Sequence[str],
) -> Parameters:
    """The tensors by the network's names, if all are there: behind a prefix, or within DataParallel's `module.`."""
    own = initial(network)
    if any("lora_A" in name for name in tensors) and not any("lora_A" in name for name in own):
        raise OnebasinError(f"{path}: a LoRA adapter, not a whole network; merge it into its base and save that")
    needed = [name for name in own if not name.endswith(COUNTER) and name not in kept]
    found = dict(tensors) if tensors.keys() >= set(needed) else _stripped(tensors, needed, path)
    found = {name: tensor for name, tensor in found.items() if not _matches(name, skip)} | dict(kept)
    if not found.keys() >= own.keys():
        found = _translated(found, network, path)
    _require_one_value(found, network, path)
    return {name: found[name] for name in own if name in found} | found


def _stripped(tensors: Mapping[str, Tensor], needed: Sequence[str], path: str | Path) -> Parameters:
    """The tensors without what stands before all names of the network, and without others; as they are, if nothing or
    more than one thing does."""
    for old_names in ({name: name for name in tensors}, {PARALLEL.sub(r"\1", name): name for name in tensors}):
        prefixes = {name.removesuffix(needed[0]) for name in old_names if name.endswith(needed[0])}
        whole = [prefix for prefix in prefixes if all(prefix + name in old_names for name in needed)]
        if len(whole) == 1:
            [prefix] = whole
            others = [old for name, old in old_names.items() if not name.startswith(prefix)]
            ignored = f", and left out {', '.join(others)}" if others else ""
            logger.info("%s: took '%s' off all names%s", path, prefix or "module.", ignored)
            return {n.removeprefix(prefix): tensors[old] for n, old in old_names.items() if n.startswith(prefix)}
    return dict(tensors)


def _translated(tensors: Parameters, network: nn.Module, path: str | Path) -> Parameters:
    """The tensors by the names of today, where the modules' own loading knows the old ones: counters that BatchNorm got
    later, the factors of a weight norm that has become a parametrization. As they are, if it does not."""
    loaded = copied(network)
    try:
        missing, unexpected = loaded.load_state_dict(dict(tensors), strict=False, assign=True)
    except Exception:  # shapes, which are told better where they are compared, or a module's own rule
        return tensors
    if unexpected or any(not name.endswith(EXTRA) for name in missing):
        return tensors
    found = initial(loaded)
    logger.info(
        "%s: has no %s; its modules know how to load it", path, ", ".join(sorted(found.keys() - tensors.keys()))
    )
    return found


def _require_one_value(tensors: Mapping[str, Tensor], network: nn.Module, path: str | Path) -> None:
    """Refuse two values for one tensor that the network has under two names."""
    first: dict[int, str] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        kept = first.setdefault(id(parameter), name)
        if kept != name and {kept, name} <= tensors.keys() and not torch.equal(tensors[name], tensors[kept]):
            raise OnebasinError(
                f"{path}: {kept} and {name} are one tensor in the network, and the file has two values for it; give "
                f"the network that it was trained as"
            )


def _is_narrower(given: torch.dtype, own: torch.dtype) -> bool:
    """Whether every value of one floating-point type is one of the other as well, and they differ."""
    if not given.is_floating_point or given == own:
        return False
    if given.itemsize == 1:  # torch promotes no 8-bit floats; all of theirs are float32's, too
        return own.is_floating_point and own.itemsize >= 4
    return torch.promote_types(given, own) == own


def check_fit(tensors: Mapping[str, Tensor], network: nn.Module, path: str | Path) -> None:
    """Refuse tensors that are not the network's: other names, shapes or types, or values that are not finite."""
    expected = initial(network)
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors:
            close = difflib.get_close_matches(name, tensors, n=3, cutoff=0)
            raise OnebasinError(
                f"{path}: has no tensor {name} (nearest: {', '.join(close)}); it is of another network, or of other "
                f"settings"
            )
        if name not in expected:
            raise OnebasinError(f"{path}: has a tensor {name} that the network lacks; give a matching file")
        if tensors[name].shape != expected[name].shape:
            have, want = tuple(tensors[name].shape), tuple(expected[name].shape)
            raise OnebasinError(f"{path}: {name} is {have}, the network's is {want}; give a matching file")
        if tensors[name].dtype != expected[name].dtype:
            raise OnebasinError(f"{path}: {name} is {tensors[name].dtype}, expected {expected[name].dtype}; convert it")
        if not is_finite(tensors[name]):
            raise OnebasinError(f"{path}: {name} holds NaN or infinity; train that model again")


def origin(path: str | Path) -> dict[str, str]:
    """Where a model is from: its path as given, and the SHA-256 of the file."""
    return {"source": str(path), "sha256": of_file(path)}


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
    return {"checksums": [of_tensors(file.tensors) for file in files]}


def check_identities(facts: Mapping[str, Any], files: Sequence[ModelFile], path: str | Path) -> None:
    """Refuse permutations whose facts say that they were made for other models, or for these in another order."""
    if facts.get("checksums") != identities(files).get("checksums"):
        raise OnebasinError(
            f"{path}: made for other models, or for these in another order; give the files as they were matched"
        )
