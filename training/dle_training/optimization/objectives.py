"""Objectives: the encoding of a target, the loss, and the link from a network's output to an answer.

One object per task holds all three, so that the loop, the metrics and the exported graph agree. It is a module without
parameters: its buffers move to the device with it, and the exporter traces `link`.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dle_bundle.errors import InputError, nearest
from dle_bundle.schema import Label, Task
from dle_bundle.values.categories import category
from dle_training.optimization import losses

ClassWeights = Literal["balanced"] | dict[str, float] | None


class ObjectiveState(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `objective.json`, from which `restore` builds an equal objective.

    `class_weights` have mean 1 over the training part. `mean` and `sd` are statistics of the training targets.
    `horizon` is the number of values in a target. `bounds` are the least and the largest answer of a regression; None
    if answers have no bounds.
    """

    task: Task
    classes: tuple[Label, ...] = ()
    class_weights: tuple[float, ...] | None = None
    temperature: float = 1.0
    mean: float = 0.0
    sd: float = 1.0
    horizon: int = 1
    bounds: tuple[float, float] | None = None


class Objective(nn.Module):
    """The target encoding, loss and link of a task. `outputs` is K, the width that the network's output must have.

    Shape: `encode` takes targets (N,) or (N, horizon); `loss` and `link` take the network's output (N, K), and `loss`
    also (H, N, K), the outputs of H heads (see `Network`). `window`
    (N, 2), the mean and spread of each row's window, replaces those of the training targets in a forecast.

    Example:
        >>> objective = fit("regression", np.array([1.0, 3.0]))
        >>> objective.encode(np.array([1.0, 3.0])).tolist()
        [-1.0, 1.0]
        >>> objective.link(torch.tensor([[1.0]])).tolist()
        [3.0]
    """

    task: Task
    classes: tuple[Label, ...] = ()
    outputs: int

    def encode(self, target: npt.NDArray[np.generic], window: Tensor | None = None) -> Tensor:
        """Encode a target column for the loss: class indices int64 or standardised values float32, in its shape.

        Raises InputError for labels that are not among the classes.
        """
        raise NotImplementedError

    def actual(self, targets: Tensor, window: Tensor | None = None) -> npt.NDArray[np.generic]:
        """Decode encoded targets for the metrics: class indices, or float64 values in the target's unit."""
        raise NotImplementedError

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean loss, a scalar, of the network's output (N, K) for encoded targets (N,).

        Of heads (H, N, K), it is the mean of the losses of each head. The loss of their mean answer would be another
        number, and heads that learn by it would only be good together.
        """
        raise NotImplementedError

    def link(self, logits: Tensor, window: Tensor | None = None) -> Tensor:
        """The answer for the network's output (N, K): probabilities (N, classes), or values in the target's unit.

        Values have shape (N,), or (N, horizon) if the horizon is longer than one.
        """
        raise NotImplementedError

    def state(self) -> ObjectiveState:
        """What `restore` needs to build an equal objective."""
        raise NotImplementedError


class Classification(Objective):
    """Cross-entropy over classes; two classes share one logit, which belongs to the second class.

    With class weight w, each row of the class counts w times. The weights are scaled to mean 1 over the training part,
    and the loss divides by the number of rows. (`nn.CrossEntropyLoss` divides by the weights in the batch, which makes
    rare classes noisier.)

    With class probabilities p, the loss is smallest at logits whose softmax is p · w, scaled to sum 1. So `link`
    subtracts ln w again: softmax(logits / temperature − ln w). The temperature is 1 until it is calibrated. It divides
    first, because the network's confidence is about the weighted classes. Logits of 0 then give the frequencies of the
    classes at every temperature.

    Shape: targets (N,) of labels → class index (N,) int64; output (N, K) → probabilities (N, classes).

    Example:
        >>> objective = fit("binary", np.array(["no", "yes"]), classes=("no", "yes"))
        >>> objective.encode(np.array(["yes", "no"])).tolist()
        [1, 0]
        >>> objective.link(torch.zeros(1, objective.outputs)).tolist()
        [[0.5, 0.5]]
    """

    temperature: Tensor
    weights: Tensor | None
    log_weights: Tensor | None

    def __init__(self, state: ObjectiveState) -> None:
        super().__init__()
        self.task = state.task
        self.classes = state.classes
        self.outputs = 1 if state.task == "binary" else len(state.classes)
        self._index = {label: index for index, label in enumerate(state.classes)}
        self._class_weights = state.class_weights
        self.register_buffer("weights", None if state.class_weights is None else torch.tensor(state.class_weights))
        self.register_buffer("temperature", torch.tensor(state.temperature))
        self.register_buffer("log_weights", None if state.class_weights is None else self._added(state.class_weights))

    def _added(self, class_weights: Sequence[float]) -> Tensor:
        """The amounts that class weights add to the logits (K,)."""
        logs = np.log(class_weights)
        return torch.tensor(logs[1:] - logs[:1] if self.outputs == 1 else logs, dtype=torch.float32)

    def encode(self, target: npt.NDArray[np.generic], window: Tensor | None = None) -> Tensor:
        labels = target.tolist()
        codes = [self._index.get(label, -1) for label in labels]
        unknown = sorted({category(label) for label, code in zip(labels, codes, strict=True) if code < 0})
        if unknown:
            raise InputError(
                f"Target values that training has not seen: {', '.join(unknown[:5])}"
                f"{f' and {len(unknown) - 5} more' if len(unknown) > 5 else ''} (known: {_names(self.classes)})"
            )
        return torch.tensor(codes, dtype=torch.int64)

    def actual(self, targets: Tensor, window: Tensor | None = None) -> npt.NDArray[np.generic]:
        return targets.cpu().numpy()

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        compute = losses.of(self.task).compute
        targets = _for_heads(targets, logits)
        if self.weights is None:
            return compute(logits, targets, "mean")
        return (compute(logits, targets, "none") * self.weights[targets]).mean()

    def link(self, logits: Tensor, window: Tensor | None = None) -> Tensor:
        logits = logits / self.temperature
        if self.log_weights is not None:
            logits = logits - self.log_weights
        if self.task == "binary":
            return torch.sigmoid(torch.cat([-logits, logits], dim=1))
        return torch.softmax(logits, dim=1)

    def state(self) -> ObjectiveState:
        return ObjectiveState(
            task=self.task,
            classes=self.classes,
            class_weights=self._class_weights,
            temperature=self.temperature.item(),
        )


class Regression(Objective):
    """Mean squared error of the standardised target; `link` returns to the target's own unit.

    Mean and standard deviation come from the training part. With a horizon longer than one, the error is the mean over
    rows and steps; steps whose target is NaN do not count. In a forecast with window scaling, mean and standard
    deviation are those of each row's window.

    Shape: targets (N,) or (N, horizon) → float32 of the same shape; output (N, horizon) → values (N,) or
    (N, horizon), float64, because a float32 holds only seven digits of the mean.

    Example:
        >>> objective = fit("regression", np.array([[1.0, 3.0], [1.0, 3.0]]))
        >>> objective.link(torch.tensor([[0.0, 1.0]])).tolist()
        [[2.0, 3.0]]
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, state: ObjectiveState) -> None:
        super().__init__()
        self.task = "regression"
        self.outputs = state.horizon
        self._state = state
        self.register_buffer("mean", torch.tensor(state.mean, dtype=torch.float64))
        self.register_buffer("sd", torch.tensor(state.sd, dtype=torch.float64))

    def encode(self, target: npt.NDArray[np.generic], window: Tensor | None = None) -> Tensor:
        if window is not None:
            level, spread = self._of_windows(window.cpu(), target.ndim)
            return ((torch.from_numpy(target.astype(np.float64)) - level) / spread).to(torch.float32)
        standardised = (target.astype(np.float64) - self._state.mean) / self._state.sd
        return torch.from_numpy(standardised.astype(np.float32))

    def actual(self, targets: Tensor, window: Tensor | None = None) -> npt.NDArray[np.generic]:
        if window is not None:
            level, spread = self._of_windows(window.cpu(), targets.dim())
            scaled_back: npt.NDArray[np.float64] = (targets.cpu().double() * spread + level).numpy()
            return scaled_back
        values: npt.NDArray[np.float64] = targets.cpu().double().numpy() * self._state.sd + self._state.mean
        return values

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return losses.of(self.task).compute(logits, _for_heads(targets, logits), "mean")

    def link(self, logits: Tensor, window: Tensor | None = None) -> Tensor:
        values = self._values(logits).to(torch.float64)
        if window is None:
            answers = values * self.sd + self.mean
        else:
            level, spread = self._of_windows(window, values.dim())
            largest = torch.finfo(torch.float32).max
            answers = torch.clamp(values * spread + level, -largest, largest)
        return answers if self._state.bounds is None else torch.clamp(answers, *self._state.bounds)

    @staticmethod
    def _of_windows(window: Tensor, dimensions: int) -> tuple[Tensor, Tensor]:
        """The mean and spread of each row, (N,) or (N, 1) for targets with a horizon."""
        level, spread = window[:, 0], window[:, 1]
        return (level, spread) if dimensions == 1 else (level.unsqueeze(1), spread.unsqueeze(1))

    def _values(self, logits: Tensor) -> Tensor:
        return logits[:, 0] if self.outputs == 1 else logits

    def state(self) -> ObjectiveState:
        return self._state


def _for_heads(targets: Tensor, outputs: Tensor) -> Tensor:
    """The targets of the rows, repeated for each head if the `outputs` are those of heads (H, N, K)."""
    return targets if outputs.dim() == 2 else targets.expand(len(outputs), *targets.shape)


def fit(
    task: Task,
    target: npt.NDArray[np.generic],
    classes: Sequence[Label] | None = None,
    class_weights: ClassWeights = None,
    *,
    clamp: bool = False,
) -> Objective:
    """The objective for the training part's target (N,) or (N, horizon); `classes` are in the order of probabilities.

    With `clamp`, the values of a regression stay within the range of these targets.

    Raises InputError if `class_weights` names labels that are not classes.
    """
    if task == "regression":
        values = target.astype(np.float64)
        horizon = values.shape[1] if values.ndim == 2 else 1
        mean, sd = float(np.nanmean(values)), float(np.nanstd(values)) or 1.0
        bounds = (float(np.nanmin(values)), float(np.nanmax(values))) if clamp else None
        return restore(ObjectiveState(task=task, mean=mean, sd=sd, horizon=horizon, bounds=bounds))
    bare = Classification(ObjectiveState(task=task, classes=tuple(classes or ())))
    if class_weights is None:
        return bare
    counts = np.bincount(bare.encode(target).numpy(), minlength=len(bare.classes))
    weights = _balanced(counts) if class_weights == "balanced" else _named(bare.classes, class_weights)
    weights = weights * counts.sum() / (weights * counts).sum()
    return restore(msgspec.structs.replace(bare.state(), class_weights=tuple(weights.tolist())))


def check_class_weights(classes: Sequence[Label] | None, class_weights: ClassWeights) -> None:
    """Raise InputError if `class_weights` names labels that are not classes."""
    if isinstance(class_weights, dict):
        _named(tuple(classes or ()), class_weights)


def restore(state: ObjectiveState) -> Objective:
    """The objective that `state` describes."""
    return Regression(state) if state.task == "regression" else Classification(state)


def _balanced(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Inverse frequencies; 1 for a class without training rows, because a weight has no effect there."""
    return np.where(counts > 0, counts.sum() / (len(counts) * np.maximum(counts, 1)), 1.0)


def _named(classes: tuple[Label, ...], weights: dict[str, float]) -> npt.NDArray[np.float64]:
    names = [category(label) for label in classes]
    unknown = [name for name in weights if name not in names]
    if unknown:
        raise InputError(
            "objective.class_weights names labels that the target does not have",
            [f"{name}{nearest(name, names) or f' (known: {_names(classes)})'}" for name in unknown],
        )
    return np.array([weights.get(name, 1.0) for name in names])


def _names(classes: tuple[Label, ...]) -> str:
    return ", ".join(map(category, classes[:20])) + (", …" if len(classes) > 20 else "")
