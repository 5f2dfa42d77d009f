"""Models: networks of one architecture as a stack, a leading model axis on every parameter."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from onebasin.parameters import Parameters, one, some


@dataclass(frozen=True)
class Models:
    """N models: `network` gives the function of an input `[n, *input_shape]` of type `input_type` (int64:
    tokens), `parameters` the values `[N, ...]`, `seeds` their names."""

    network: nn.Module
    parameters: Parameters
    seeds: tuple[int, ...]
    input_shape: tuple[int, ...]
    input_type: torch.dtype = torch.float32

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, model: int) -> Parameters:
        """The parameters of one model."""
        return one(self.parameters, model)

    def __iter__(self) -> Iterator[Parameters]:
        return (self[model] for model in range(len(self)))

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
        """A batch of two inputs that the network takes (`example_for`)."""
        return example_for(self.network, self.input_shape, self.input_type, self.device)

    def first(self, count: int) -> "Models":
        """The first `count` models."""
        return self.some(slice(count))

    def some(self, models: slice | Sequence[int]) -> "Models":
        """Some of the models."""
        seeds = self.seeds[models] if isinstance(models, slice) else tuple(self.seeds[model] for model in models)
        return replace(self, parameters=some(self.parameters, models), seeds=seeds)


def example_for(
    network: nn.Module, input_shape: Sequence[int], input_type: torch.dtype, device: torch.device | str
) -> Tensor:
    """A batch of two inputs: zeros, or tokens in turn, as many different ones as each embedding of the network has.

    A proof that something leaves the function as it is wants different tokens (`symmetry.check` draws from these).
    """
    zeros = torch.zeros(2, *input_shape, dtype=input_type, device=device)
    known = [layer.num_embeddings for layer in network.modules() if isinstance(layer, nn.Embedding)]
    if input_type.is_floating_point or not known:
        return zeros
    return torch.arange(zeros.numel(), dtype=input_type, device=device).remainder_(min(known)).view_as(zeros)


def initial(network: nn.Module) -> Parameters:
    """The parameters that the network object itself holds (detached)."""
    return {name: tensor.detach() for name, tensor in network.state_dict().items()}
