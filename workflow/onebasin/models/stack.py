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
        """A batch of two inputs of zeros, of the shape and type that the network takes; `Data.example` knows tokens."""
        return torch.zeros(2, *self.input_shape, dtype=self.input_type, device=self.device)

    def first(self, count: int) -> "Models":
        """The first `count` models."""
        return self.some(slice(count))

    def some(self, models: slice | Sequence[int]) -> "Models":
        """Some of the models."""
        seeds = self.seeds[models] if isinstance(models, slice) else tuple(self.seeds[model] for model in models)
        return replace(self, parameters=some(self.parameters, models), seeds=seeds)


def initial(network: nn.Module) -> Parameters:
    """The parameters that the network object itself holds (detached)."""
    return {name: tensor.detach() for name, tensor in network.state_dict().items()}
