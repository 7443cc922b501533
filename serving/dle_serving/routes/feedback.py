"""POST /feedback: the true values of earlier predictions, committed before the response is sent."""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from dle_bundle.errors import Fault, counted
from dle_bundle.rows.faults import body_faults, first, json_kind, shown
from dle_serving.connection.admission import Admission
from dle_serving.connection.limits import check_content, read_body
from dle_serving.errors import BadRequest, NotReady, TooLarge
from dle_serving.feedback import verification
from dle_serving.feedback.databases import StoreError
from dle_serving.feedback.group_commit import GroupCommit
from dle_serving.feedback.store import Outcome, Store
from dle_serving.feedback.verification import CheckedItems, FeedbackItem, Rejection
from dle_serving.models.repository import Repository
from dle_serving.models.served import ServedModel
from dle_serving.monitoring.metrics import Metrics
from dle_serving.routes.contract import Request, Response
from dle_serving.settings import ServerSettings

_INLINE_BYTES = 16 << 10
"""Longer bodies are decoded and checked in a thread, so that they do not block the event loop."""
_RETRY_SECONDS = 5
_CONFLICT = "this prediction already has feedback with another actual value, which is kept"
Result = TypeVar("Result")

log = logging.getLogger(__name__)


class FeedbackRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """The request body."""

    items: list[FeedbackItem]


class FeedbackResponse(msgspec.Struct, frozen=True):
    """The response body."""

    accepted: int
    duplicates: int
    rejected: list[Rejection]


_EXPECTED: tuple[tuple[str, Any, str], ...] = (
    ("id", str, "a string"),
    ("actual", str | bool | int | float | list, "a class, a number, or a list with one number per step of the horizon"),
)
_decoder = msgspec.json.Decoder(FeedbackRequest)


class _InvalidBody(Exception):
    """The body is not valid feedback; `_refusal` finds its faults."""


class FeedbackHandler:
    """Handles POST /feedback; owns the thread that writes to the store."""

    def __init__(
        self, settings: ServerSettings, repository: Repository, admission: Admission, metrics: Metrics, store: Store
    ) -> None:
        self._repository = repository
        self._admission = admission
        self._metrics = metrics
        self._max_age = settings.feedback_max_age
        self._commits = GroupCommit(store)
        self._max_body_bytes = settings.max_body_bytes
        self._most_items = settings.max_rows

    async def __call__(self, request: Request) -> Response:
        """Store the valid items of one request in one transaction; raises BadRequest, NotReady, TooLarge."""
        request.flags()
        models = self._repository.all()
        check_content(request.headers)
        with self._admission.ticket() as ticket:
            body = await read_body(request.headers, request.receive, self._max_body_bytes, ticket.take_bytes)
            return await self._store(body, models)

    async def _store(self, body: bytes, models: Sequence[ServedModel]) -> Response:
        run = _at_once if len(body) <= _INLINE_BYTES else asyncio.to_thread
        now = int(time.time())
        try:
            checked = await run(lambda: self._check(body, models, now))
        except _InvalidBody as error:
            raise await asyncio.to_thread(_refusal, body, str(error)) from None
        try:
            outcomes = await self._commits.add(checked.records)
        except StoreError as error:
            log.warning("feedback was not stored: %s", error)
            fault = Fault(None, None, "store", "no item of this request is acknowledged; send it again")
            raise NotReady("the feedback store cannot be reached", [fault], retry_after=_RETRY_SECONDS) from None
        return await run(lambda: self._answer(checked, outcomes, now))

    def close(self) -> None:
        """Wait briefly for the transaction in progress, and end the thread."""
        self._commits.close()

    def _check(self, body: bytes, models: Sequence[ServedModel], now: int) -> CheckedItems:
        verifiers = {served.fingerprint: served.verifier for served in models}
        keys = models[0].signing_keys  # all models sign with the keys of the server
        return verification.check(self._decode(body), verifiers, keys, now=now, max_age=self._max_age)

    def _decode(self, body: bytes) -> Sequence[FeedbackItem]:
        try:
            items = _decoder.decode(body).items
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise _InvalidBody(str(error)) from None
        if len(items) > self._most_items:
            raise TooLarge(f"expected at most {counted(self._most_items, 'item')} in a request, found {len(items):,}")
        return items

    def _answer(self, checked: CheckedItems, outcomes: Sequence[Outcome], now: int) -> Response:
        rejections = list(checked.rejections)
        for position, record, outcome in zip(checked.positions, checked.records, outcomes, strict=True):
            if outcome is Outcome.CONFLICT:
                rejections.append(Rejection(position, "conflict", _CONFLICT))
            elif outcome is Outcome.ACCEPTED:
                self._metrics.feedback(record.model, record.version, max(0, now - record.predicted_at))
        self._metrics.feedback_rejected(rejection.code for rejection in rejections)
        counts = Counter(outcomes)
        rejections.sort(key=lambda rejection: rejection.item)
        answer = FeedbackResponse(counts[Outcome.ACCEPTED], counts[Outcome.DUPLICATE], rejections)
        return Response(msgspec.json.encode(answer))


async def _at_once(work: Callable[[], Result]) -> Result:
    return work()


def _refusal(body: bytes, otherwise: str) -> BadRequest:
    """The error with the faults of a body, or with the message `otherwise` if none is found."""
    faults, more = first(body_faults(body, "items", _item_faults))
    faults = faults or [Fault(None, None, "json", otherwise)]
    return BadRequest("the body is not valid feedback", faults, more=more)


def _item_faults(place: int, item: Any) -> Iterator[Fault]:
    if not isinstance(item, dict):
        yield Fault(place, None, "type", f"expected an object, got {json_kind(item)}")
        return
    for name in (key for key in item if key not in ("id", "actual")):
        yield Fault(place, shown(name), "unknown", 'unknown key: expected "id" and "actual"')
    for name, kinds, expected in _EXPECTED:
        value = item.get(name)
        if value is None:
            yield Fault(place, name, "missing", "a value is required")
        elif not isinstance(value, kinds):
            yield Fault(place, name, "type", f"expected {expected}, got {json_kind(value)}")
        elif isinstance(value, list) and (others := [each for each in value if type(each) not in (int, float)]):
            yield Fault(place, name, "type", f"expected numbers, got a list with {json_kind(others[0])}")
        elif not all(map(_finite, value if isinstance(value, list) else [value])):
            yield Fault(place, name, "non_finite", "expected a finite number")


def _finite(value: Any) -> bool:
    """False for a number that is infinite, NaN or beyond float64; True for everything else."""
    try:
        return not isinstance(value, int | float) or math.isfinite(value)
    except OverflowError:  # integers in JSON are unbounded
        return False
