"""What the straight-through searches share: latent targets of all models but the first, which keeps its order.

A search evaluates the gradient at a convex combination of permuted models and passes it to the targets as if permuting
were the identity: with `w (stopgrad(pi(theta)) + t - stopgrad(t))` in the combination, the derivative by t is w.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

from onebasin.data import Data, Split, batches
from onebasin.data.augmentation import augment
from onebasin.models.objective import objective_named
from onebasin.models.running import forward, refusing_small_batches
from onebasin.parameters import Parameters, one
from onebasin.seeding import child, drawing_from
from onebasin.symmetry.apply import Elements, act, identity
from onebasin.symmetry.spec import Spec

ADAM: Any = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0, "amsgrad": False, "maximize": False}


class Latents:
    """The targets as one stack, each with an Adam of its own.

    Adam works on views of the stack, one model after the other, so that the gradients of one model at a time are in
    memory. It is torch's function, as making torch's optimiser object imports the compiler, a second of every job.

    Attributes:
        stack: the targets `[models, ...]`, at first all equal to the first model.
    """

    def __init__(self, first: Mapping[str, Tensor], models: int, lr: float) -> None:
        self.stack: Parameters = {name: t.detach().expand(models, *t.shape).clone() for name, t in first.items()}
        self._views = [one(self.stack, model) for model in range(models)]
        self._lr = lr
        self._means, self._squares = (
            [[torch.zeros_like(view) for view in views.values()] for views in self._views] for _ in range(2)
        )
        device = next(iter(self.stack.values())).device
        self._steps = [[torch.zeros((), device=device) for _ in views] for views in self._views]

    def step(self, gradient: Mapping[str, Tensor], weights: Sequence[float]) -> None:
        """One Adam step of every target by its share of the gradient at a combination with these weights."""
        for model, weight in enumerate(weights):
            self.step_one(model, gradient, weight)

    def step_one(self, model: int, gradient: Mapping[str, Tensor], weight: float) -> None:
        """One Adam step of one target by its share of the gradient at a combination in which it has `weight`."""
        views = self._views[model]
        # the fused kernel reads parameter and gradient as flat memory, so both have to be laid out alike
        shares = [(weight * gradient[name]).contiguous() for name in views]
        means, squares, steps = self._means[model], self._squares[model], self._steps[model]
        adam(list(views.values()), shares, means, squares, [], steps, fused=True, lr=self._lr, **ADAM)


def permuted(source: Mapping[str, Tensor], spec: Spec, elements: Mapping[str, Tensor]) -> Iterator[Parameters]:
    """The models of a stack, one at a time, their units in their present order."""
    for model in range(len(next(iter(source.values())))):
        yield act(one(source, model), spec, one(elements, model))


def training_batches(data: Data, settings: Mapping[str, Any], generator: torch.Generator) -> Iterator[Split]:
    """One epoch of the training data as the models were trained on them: in random order, with their augmentation."""
    for chosen in batches(len(data.train), settings["batch"], generator):
        batch = data.train.some(chosen)
        if settings.get("augmentation"):
            images = batch.only_input("augmentation")
            batch = replace(batch, inputs=augment(images, settings["augmentation"], generator, data.black))
        yield batch


def own_dropout(generator: torch.Generator) -> AbstractContextManager[None]:
    """Within this context, what the network draws while it trains is drawn from streams that belong to `generator`."""
    places = dict.fromkeys([torch.device("cpu"), generator.device])
    return drawing_from(*(child(generator, "dropout", device) for device in places))


def gradient_at(network: torch.nn.Module, parameters: Parameters, batch: Split) -> Parameters:
    """The gradient of the batch's mean loss at `parameters`, the network in training mode."""
    here = {name: tensor.detach().requires_grad_() for name, tensor in parameters.items()}
    gradients = torch.autograd.grad(loss_at(network, here, batch), list(here.values()))
    return dict(zip(here, gradients, strict=True))


def loss_at(network: torch.nn.Module, parameters: Parameters, batch: Split) -> Tensor:
    """The batch's mean loss at `parameters`, the network in training mode."""
    with refusing_small_batches(len(batch)):
        outputs = forward(network, parameters, batch.inputs, training=True)
    return objective_named(batch.objective).loss(outputs, batch.targets)


def with_reference(spec: Spec, elements: Mapping[str, Tensor]) -> Elements:
    """The permutations with the identity of the first model before them."""
    first = identity(spec, 1, next(iter(elements.values())).device)
    return {name: torch.cat([first[name], element]) for name, element in elements.items()}
