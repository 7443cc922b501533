"""Runs a bundle's graph in ONNX Runtime, and decides on which device."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dle_serving.predictions import Predictions, concatenate

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # set before the import, which starts telemetry

import onnxruntime

from dle_bundle import series
from dle_bundle.bundle import Bundle
from dle_bundle.errors import BundleError, InputError, WorkError
from dle_bundle.groups import MISSING_TIME, PADDING, Groups
from dle_bundle.schema import Label, Schema
from dle_serving.settings import Device

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_GROUP_TYPES = {
    "numeric": "tensor(double)",
    "categorical": "tensor(string)",
    "datetime": "tensor(int64)",
    "image": "tensor(uint8)",
    "sequence": "tensor(double)",
    "lengths": "tensor(int64)",
    "known": "tensor(double)",
    "tokens": "tensor(int64)",
}
_FREE_DIMENSIONS = {"sequence": 2, "tokens": 2}
"""Groups whose second dimension, the steps or tokens, also varies from batch to batch."""
_WARM_RUNS = 3


@dataclass(frozen=True, slots=True)
class RunTime:
    """How long a model runs, in seconds: `one` for one row, `most` for `most_rows` rows."""

    one: float
    most_rows: int
    most: float

    def seconds(self, rows: int) -> float:
        """The time of a run with `rows` rows, by the line through both."""
        return self.one + (self.most - self.one) * (rows - 1) / max(self.most_rows - 1, 1)


class Model:
    """A bundle's graph, open in ONNX Runtime. Safe to share between threads.

    `provider` is the device that it runs on: `cpu` or `cuda`.
    """

    def __init__(self, bundle: Bundle, device: Device = "auto", threads: int = 0) -> None:
        """Open the graph; `threads` 0 uses all cores.

        Raises InputError when `device` is unavailable, BundleError when the graph does not match schema and manifest.
        """
        self.schema = bundle.schema
        self._tokenizer = bundle.tokenizer
        self._session, self.provider = _open(bundle, device, threads)
        classes = self.schema.outputs.classes
        roles = ("value",) if classes is None else ("label", "probabilities")
        _check(bundle, self._session, roles)
        self._outputs = [bundle.manifest.outputs[role] for role in roles]
        self._place: dict[Label, int] = {label: index for index, label in enumerate(classes or ())}

    def tokenise(self, groups: Groups) -> Groups:
        """The same rows with their text tokenised."""
        if self._tokenizer is None or groups.text is None:
            return groups
        return groups.with_tokens(self._tokenizer.tokens(groups.text))

    def run(self, groups: Groups) -> Predictions:
        """Predict all rows, in order; text must be tokenised. Raises WorkError when a prediction is not finite."""
        if not len(groups):
            return self._nothing()
        step = groups.rows_at_once()
        if len(groups) <= step:
            return self._run(groups)
        lengths = _lengths(groups)
        if lengths is None:
            parts = (groups.take(slice(start, start + step)) for start in range(0, len(groups), step))
            return concatenate([self._run(part) for part in parts])
        # rows of similar length run together, since each run is padded to its longest row
        order = np.argsort(lengths, kind="stable")
        places = (order[start : start + step] for start in range(0, len(order), step))
        return concatenate([self._run(groups.take(place).trimmed()) for place in places]).take(np.argsort(order))

    def _run(self, groups: Groups) -> Predictions:
        found = self._session.run(self._outputs, groups.feeds())
        if not np.isfinite(found[-1]).all():
            raise WorkError("the model's prediction is not a finite number")
        if len(self._outputs) == 1:
            return Predictions(values=found[0])
        labels, probabilities = found
        classes = np.array([self._place[label] for label in labels.tolist()], dtype=np.int64)
        return Predictions(classes, probabilities)

    def warm_up(self, most_rows: int) -> "RunTime":
        """Run batches of up to `most_rows`, so that the first requests do not wait for the runtime's own preparation.

        Returns how long runs take, with missing values, and with the shortest series and texts.
        """
        seconds = {rows: self._seconds(rows) for rows in sorted({1, 2, most_rows})}
        return RunTime(seconds[1], most_rows, seconds[most_rows])

    def _seconds(self, rows: int) -> float:
        groups = self.tokenise(example_groups(self.schema, rows))
        found = []
        for _ in range(_WARM_RUNS):
            started = time.perf_counter()
            self.run(groups)
            found.append(time.perf_counter() - started)
        return min(found)

    def _nothing(self) -> Predictions:
        horizon = self.schema.outputs.horizon
        if self.schema.outputs.classes is None:
            return Predictions(values=np.empty((0, horizon) if horizon > 1 else 0, dtype=np.float64))
        width = len(self.schema.outputs.classes)
        return Predictions(np.empty(0, dtype=np.int64), np.empty((0, width), dtype=np.float32))


def _lengths(groups: Groups) -> npt.NDArray[np.int64] | None:
    """The number of steps or tokens (N,) of each row; None when rows do not vary in length."""
    if groups.sequence is not None:
        return groups.lengths
    return None if groups.tokens is None else np.count_nonzero(groups.tokens != PADDING, axis=1)


def example_groups(schema: Schema, rows: int) -> Groups:
    """`rows` rows in which every value is missing, for any schema."""
    image = sequence = lengths = known = text = None
    if schema.image and (shape := schema.image[0].image) is not None:
        image = np.zeros((rows, len(schema.image) * shape.channels, shape.height, shape.width), dtype=np.uint8)
    if schema.sequence:
        sequence, lengths = series.join(
            [series.missing(rows, field.sequence) for field in schema.sequence if field.sequence is not None]
        )
    for field in schema.known:
        assert field.sequence is not None
        known, _ = series.missing(rows, field.sequence)
    if schema.text:
        text = np.full((rows, len(schema.text)), "", dtype=object)
    return Groups(
        np.full((rows, len(schema.numeric)), np.nan),
        np.full((rows, len(schema.categorical)), "", dtype=object),
        np.full((rows, len(schema.datetime)), MISSING_TIME, dtype=np.int64),
        image,
        sequence,
        lengths,
        text,
        known=known,
    )


def check_device(device: Device) -> list[str]:
    """The devices that the installed runtime supports; raises InputError when `device` is not among them."""
    available = [name for name, provider in _PROVIDERS.items() if provider in onnxruntime.get_available_providers()]
    if device != "auto" and device not in available:
        raise InputError(
            f"device {device}: not available in this ONNX Runtime, which supports {', '.join(available)}; "
            "for CUDA, install the extra gpu instead of cpu"
        )
    return available


def _open(bundle: Bundle, device: Device, threads: int) -> tuple[Any, str]:
    available = check_device(device)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # spinning threads would take the cores from the event loop and from other workers
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    wanted = [name for name in ("cuda", "cpu") if name in available and device in ("auto", name)]
    # the string operators at the start of the graph always run on the CPU
    providers = [_PROVIDERS[name] for name in dict.fromkeys([*wanted, "cpu"])]
    try:
        session = onnxruntime.InferenceSession(bundle.model, options, providers=providers)
    except Exception as error:  # the runtime's errors share no base
        raise BundleError(f"{bundle.model}: ONNX Runtime cannot open it: {error}") from error
    taken = "cuda" if _PROVIDERS["cuda"] in session.get_providers() else "cpu"
    if device == "cuda" and taken != "cuda":
        raise InputError("device cuda: ONNX Runtime has CUDA, but could not start it (driver or libraries)")
    return session, taken


def _check(bundle: Bundle, session: Any, roles: tuple[str, ...]) -> None:
    """Raise BundleError unless the graph's inputs match the schema and its outputs the manifest."""
    groups = example_groups(bundle.schema, 0)
    feeds = groups.feeds()
    if groups.text is not None:
        feeds["tokens"] = np.empty((0, 1), dtype=np.int64)
    expected = {name: (_GROUP_TYPES[name], _fixed(name, array.shape)) for name, array in feeds.items()}
    found = {value.name: (value.type, _fixed(value.name, value.shape)) for value in session.get_inputs()}
    faults = [
        f"input {name}: expected {expected.get(name, 'nothing')}, found {found.get(name, 'nothing')}"
        for name in sorted({*expected, *found})
        if expected.get(name) != found.get(name)
    ]
    outputs = {value.name for value in session.get_outputs()}
    faults += [
        f"output {role}: the manifest names {bundle.manifest.outputs.get(role)!r}, the graph has {sorted(outputs)}"
        for role in roles
        if bundle.manifest.outputs.get(role) not in outputs
    ]
    if faults:
        raise BundleError(f"{bundle.model} does not match its schema and manifest", faults)


def _fixed(name: str, shape: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(shape[_FREE_DIMENSIONS.get(name, 1) :])
