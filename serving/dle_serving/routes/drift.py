"""GET /drift: whether a model's inputs, predictions and scores have shifted during the last window."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from msgspec.structs import replace

from dle_bundle.drift import verdict as drift
from dle_bundle.drift.verdict import Score, Shift, Verdict
from dle_serving.errors import NotFound
from dle_serving.models.repository import Repository
from dle_serving.monitoring.monitored_model import MonitoredModel
from dle_serving.monitoring.observations import Observations
from dle_serving.monitoring.quality import Quality, rolling
from dle_serving.routes.contract import Request, Response


class Window(msgspec.Struct, frozen=True, rename={"start": "from", "end": "to"}):
    """The time window: `seconds` in whole minutes, plus the current minute."""

    seconds: int
    start: datetime
    end: datetime


class DriftReport(msgspec.Struct, frozen=True, kw_only=True):
    """The response body. `rows`: predictions counted in the window. `verdict`: the worst of all verdicts.

    `accuracy` is null while the feedback store cannot be reached. `estimated_accuracy` is null for a regression.
    """

    model: str
    version: int
    verdict: Verdict
    window: Window
    rows: int
    features: Sequence[Shift]
    prediction: Shift
    accuracy: Score | None
    estimated_accuracy: Score | None


class DriftHandler:
    """Handles GET /drift."""

    def __init__(self, repository: Repository, quality: Quality) -> None:
        self._repository = repository
        self._quality = quality

    async def __call__(self, request: Request) -> Response:
        """The report of one model; raises NotFound when monitoring is off, NotReady while the models load."""
        with_bins = request.flags(bins=False)["bins"]
        served = self._repository.find(request.parameters.get("model"), request.parameters.get("version"))
        model = served.monitored
        if model.observations is None:
            raise NotFound("drift is not monitored: DLE_MONITORING is false")
        await self._repository.count()
        report = await asyncio.to_thread(_report, model, model.observations, self._quality, with_bins)
        return Response(msgspec.json.encode(report))


def _report(model: MonitoredModel, observations: Observations, quality: Quality, with_bins: bool) -> DriftReport:
    now = time.time()
    counted, reference = observations.window(now), model.reference
    features = drift.feature_shifts(counted, reference)
    prediction = drift.prediction_shift(counted, reference)
    if with_bins:
        features = [
            replace(shift, bins=drift.shares(counted.features[shift.feature], reference.features[shift.feature]))
            for shift in features
            if isinstance(shift.feature, str)
        ]
        prediction = replace(prediction, bins=drift.shares(counted.prediction, reference.prediction))
    feedback = quality.read().get(model.fingerprint)
    accuracy = None if feedback is None else rolling(feedback.window, model)
    estimated = (
        drift.estimated_accuracy(counted, model.reference.test_scores.get("accuracy")) if model.class_names else None
    )
    scores = [score.verdict for score in (accuracy, estimated) if score is not None]
    first = int(now) // 60 * 60 - observations.seconds
    return DriftReport(
        model=model.name,
        version=model.version,
        verdict=drift.worst([*(shift.verdict for shift in features), prediction.verdict, *scores]),
        window=Window(observations.seconds, datetime.fromtimestamp(first, UTC), datetime.fromtimestamp(int(now), UTC)),
        rows=counted.rows,
        features=features,
        prediction=prediction,
        accuracy=accuracy,
        estimated_accuracy=estimated,
    )
