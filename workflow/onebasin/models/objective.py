"""What a network is judged by: a loss, and which answers are right. Nothing else knows it.

The data say which objective is theirs (`Split.objective`). Two are built in; a function of one's own,
`package.module:callable`, is `(outputs, targets) -> loss`, the mean over the samples, or `-> (loss, accuracy)`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from onebasin.errors import OnebasinError
from onebasin.registry import resolve

NAN = float("nan")


class Objective:
    """How outputs are judged. Outputs are what the network returns: a tensor, or tensors in dictionaries and tuples."""

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """The mean loss over the samples, which gradients are taken of.

        Raises:
            OnebasinError: the outputs are not of such targets.
        """
        raise NotImplementedError

    def __call__(self, outputs: Any, targets: Tensor) -> Tensor:
        """The mean loss."""
        return self.loss(outputs, targets)

    def right(self, outputs: Any, targets: Tensor) -> Tensor:
        """How many samples are told right; NaN where nothing is right or wrong."""
        return torch.full((), NAN, device=targets.device)

    def judged(self, outputs: Any, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The mean loss, and how many samples are told right (detached)."""
        loss = self.loss(outputs, targets)
        with torch.no_grad():
            return loss, self.right(outputs, targets)

    def predictions(self, outputs: Any) -> Any:
        """Of outputs, what `score` and `ensemble` go on with."""
        return outputs

    def score(self, predictions: Any, targets: Tensor) -> tuple[float, float]:
        """Loss and accuracy of a whole split, in float64; the accuracy is NaN where nothing is right or wrong."""
        raise NotImplementedError

    def ensemble(self, members: list[Any]) -> Any:
        """The predictions of several models taken together; None where nobody says how to."""
        return None


class CrossEntropy(Objective):
    """Mean cross-entropy in nats, accuracy as a fraction of one; an ensemble averages probabilities.

    Logits are `[n, classes]` for targets `[n]`, or `[n, classes, positions ...]` for targets `[n, positions ...]`, as
    torch has it; means are then over samples and positions.
    """

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """The mean cross-entropy."""
        return F.cross_entropy(*_rows(outputs, targets))

    def right(self, outputs: Any, targets: Tensor) -> Tensor:
        """How many samples are told right; one with positions counts by the fraction of them that are."""
        hits = outputs.argmax(dim=1) == targets
        return hits.sum() if hits.dim() == 1 else hits.flatten(1).float().mean(dim=1).sum()

    def predictions(self, outputs: Any) -> Tensor:
        """Log-probabilities, shaped as the logits are."""
        return F.log_softmax(_logits(outputs), dim=1)

    def score(self, predictions: Any, targets: Tensor) -> tuple[float, float]:
        """The mean negative log-likelihood, summed in float64, and the accuracy."""
        loss = F.nll_loss(*_rows(predictions.double(), targets))
        return float(loss), float((predictions.argmax(dim=1) == targets).double().mean())

    def ensemble(self, members: list[Any]) -> Tensor:
        """The log of the mean probabilities."""
        return torch.stack(members).double().exp().mean(dim=0).log()


class MeanSquaredError(Objective):
    """The mean over all numbers of (output - target)^2, in the square of the targets' unit.

    Outputs and targets are tensors of one shape; an ensemble averages outputs.
    """

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """The mean squared error."""
        have = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        if have != tuple(targets.shape):
            raise OnebasinError(
                f"the network gives outputs {have} for targets {tuple(targets.shape)}; a mean squared error is between "
                f"equal shapes"
            )
        return F.mse_loss(outputs, targets.to(outputs.dtype))

    def score(self, predictions: Any, targets: Tensor) -> tuple[float, float]:
        """The mean squared error, summed in float64."""
        return float(self.loss(predictions.double() if isinstance(predictions, Tensor) else predictions, targets)), NAN

    def ensemble(self, members: list[Any]) -> Tensor:
        """The mean outputs."""
        return torch.stack(members).double().mean(dim=0)


class Own(Objective):
    """A function of the user's as an objective."""

    def __init__(self, name: str, function: Callable[[Any, Tensor], Any]) -> None:
        self._name, self._function = name, function

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """What the function says."""
        return self._judge(outputs, targets)[0]

    def right(self, outputs: Any, targets: Tensor) -> Tensor:
        """Its accuracy times the number of samples."""
        return self.judged(outputs, targets)[1]

    def judged(self, outputs: Any, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Both of one call, as the function may be costly, or draw."""
        loss, accuracy = self._judge(outputs, targets)
        return loss, accuracy.detach() * len(targets)

    def score(self, predictions: Any, targets: Tensor) -> tuple[float, float]:
        """What the function says of a whole split."""
        loss, accuracy = self._judge(predictions, targets)
        return float(loss), float(accuracy)

    def _judge(self, outputs: Any, targets: Tensor) -> tuple[Tensor, Tensor]:
        try:
            found = self._function(outputs, targets)
        except Exception as error:  # the user's function may fail in any way
            line = (str(error).splitlines() or [""])[0]
            raise OnebasinError(f"objective {self._name}: {type(error).__name__}: {line}") from error
        loss, accuracy = found if isinstance(found, tuple) and len(found) == 2 else (found, NAN)
        if not isinstance(loss, Tensor) or loss.dim():
            shape = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise OnebasinError(f"objective {self._name}: gave {shape}; return the mean loss, a tensor of one number")
        return loss, torch.as_tensor(accuracy, device=loss.device)


cross_entropy, mean_squared_error = CrossEntropy(), MeanSquaredError()


def objective_named(name: str | Callable[..., Any]) -> Objective:
    """The objective called `name`: a built-in one, or a function (or `Objective`) of one's own, which may be given as
    it is.

    Raises:
        OnebasinError: there is no such objective.
    """
    found = resolve("objective", name) if isinstance(name, str) else name
    return found if isinstance(found, Objective) else Own(getattr(found, "__name__", str(name)), found)


def _logits(outputs: Any) -> Tensor:
    if not isinstance(outputs, Tensor) or outputs.dim() < 2:
        have = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise OnebasinError(
            f"the network gives {have}, not logits [n, classes]; wrap it in a module that does, or give an objective "
            f"that takes this"
        )
    return outputs


def _rows(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Logits `[m, classes]` and targets `[m]`, a row a position: on a GPU torch's loss is deterministic only so."""
    logits = _logits(logits)
    if (len(logits), *logits.shape[2:]) != tuple(targets.shape):
        have, want = (tuple(tensor.shape) for tensor in (logits, targets))
        raise OnebasinError(
            f"the network gives logits {have} for targets {want}; they have to be [n, classes] for targets [n], or "
            f"[n, classes, positions] for targets [n, positions]"
        )
    if logits.dim() == 2:
        return logits, targets
    return logits.movedim(1, -1).flatten(0, -2), targets.flatten()
