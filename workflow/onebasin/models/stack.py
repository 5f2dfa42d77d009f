"""Models: networks of one architecture as a stack, a leading model axis on every parameter."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from onebasin.errors import OnebasinError
from onebasin.inputs import Inputs, Shape, Type
from onebasin.networks.examples import example_for
from onebasin.parameters import Parameters, one, some


@dataclass(frozen=True)
class Models:
    """N models: `network` gives the function of an input `[n, *input_shape]` of type `input_type` (int64: tokens; both
    are dictionaries where there are several inputs), `parameters` the values `[N, ...]`, `seeds` their names.
    `skipped` are tensors that all have as the first model has them, such as heads for other classes."""

    network: nn.Module
    parameters: Parameters
    seeds: tuple[int, ...]
    input_shape: Shape
    input_type: Type = torch.float32
    skipped: tuple[str, ...] = ()

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
    def example_input(self) -> Inputs:
        """A batch of two that the network takes (`example_for`)."""
        return example_for(self.network, self.input_shape, self.input_type, self.device)

    def first(self, count: int) -> "Models":
        """The first `count` models."""
        return self.some(slice(count))

    def some(self, models: slice | Sequence[int]) -> "Models":
        """Some of the models."""
        seeds = self.seeds[models] if isinstance(models, slice) else tuple(self.seeds[model] for model in models)
        return replace(self, parameters=some(self.parameters, models), seeds=seeds)


def initial(network: nn.Module) -> Parameters:
    """The parameters and buffers that the network object itself holds (detached). Extra state that is no tensor belongs
    to the object and is not among them."""
    state = network.state_dict()
    for name, value in state.items():
        if is_lazy(value) or (isinstance(value, Tensor) and value.is_meta):
            raise OnebasinError(
                f"{type(network).__name__}: {name} has no values yet; run the network once, or load some into it"
            )
    return {name: value.detach() for name, value in state.items() if isinstance(value, Tensor)}
