"""Writes the bodies of POST /predict, for a whole batch at a time.

All numbers of a batch are formatted by one call of msgspec and all ids are signed by one call; each row is then one
formatting of a template.
"""

import time
from collections.abc import Iterable, Sequence
from itertools import chain

import msgspec

from dle_bundle.schema import Outputs
from dle_serving.feedback.ids import NO_CLASS, SigningKeys
from dle_serving.predictions import Predictions, standardised

_encode = msgspec.json.Encoder().encode


class ResponseEncoder:
    """Writes the response bodies of one model. Safe in any thread.

    A body is `{"model", "version", "predictions": [...]}`. A prediction is `{"id", "label", "probability",
    "probabilities"}` of a classifier, `{"id", "value"}` of a regression, or `{"id", "values"}` of a forecast over
    several steps. `id` is absent if the request asks for that.
    """

    def __init__(self, name: str, version: int, outputs: Outputs, keys: SigningKeys, fingerprint: bytes) -> None:
        self._outputs = outputs
        self._keys = keys
        self._fingerprint = fingerprint
        self._start = b'{"model":%b,"version":%d,"predictions":[' % (_encode(name), version)
        self._labels = [_encode(label) for label in outputs.classes or ()]
        # each % in a name is doubled, since a template would take it for a place
        names = [_encode(name).replace(b"%", b"%%") for name in outputs.class_names]
        if outputs.classes is not None:
            probabilities = b",".join([b"%b:%%b" % name for name in names])
            self._row = b'"label":%%b,"probability":%%b,"probabilities":{%b}}' % probabilities
        elif outputs.horizon > 1:
            self._row = b'"values":[%b]}' % b",".join([b"%b"] * outputs.horizon)
        else:
            self._row = b'"value":%b}'

    def bodies(self, answers: Predictions, sizes: Sequence[int], with_ids: Sequence[bool]) -> list[bytes]:
        """The body for each request, which has the next `sizes` rows of `answers`, with or without ids."""
        classes, summary, values = self._values(answers)
        if any(with_ids):
            ids = self._keys.sign(int(time.time()), self._fingerprint, classes, summary)
            template = b'{"id":"%b",' + self._row
            rows = [template % (id_.encode(), *row) for id_, row in zip(ids, values, strict=True)]
        if not all(with_ids):
            template = b"{" + self._row
            bare = [template % row for row in values]
        bodies, start = list[bytes](), 0
        for size, wanted in zip(sizes, with_ids, strict=True):
            found = (rows if wanted else bare)[start : start + size]
            bodies.append(b"%b%b]}" % (self._start, b",".join(found)))
            start += size
        return bodies

    def _values(self, answers: Predictions) -> tuple[Sequence[int], Sequence[float], list[tuple[bytes, ...]]]:
        """The class index and the number in the id of each row, and what its template takes."""
        if answers.values is not None:
            summary: list[float] = standardised(answers.point_values, self._outputs).tolist()
            texts = _texts(answers.values.ravel().tolist())
            return [NO_CLASS] * len(summary), summary, list(zip(*[iter(texts)] * self._outputs.horizon, strict=True))
        assert answers.classes is not None
        assert answers.probabilities is not None
        classes: list[int] = answers.classes.tolist()
        table: list[list[float]] = answers.probabilities.tolist()
        texts = _texts(chain.from_iterable(table))
        rows = zip(*[iter(texts)] * len(self._labels), strict=True)
        labels = self._labels
        return (
            classes,
            [row[place] for row, place in zip(table, classes, strict=True)],
            [(labels[place], row[place], *row) for row, place in zip(rows, classes, strict=True)],
        )


def _texts(numbers: Iterable[float]) -> list[bytes]:
    """Each number as JSON."""
    written = _encode(list(numbers))[1:-1]
    return written.split(b",") if written else []
