"""The models that a server answers with: found, verified, opened and warmed up, before the first request.

Loading runs in a thread of its own, so that the server says from the start what it is doing.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from enum import Enum

from dle_bundle.errors import DleError, Fault
from dle_serving.errors import NotFound, NotReady
from dle_serving.feedback.ids import load_signing_keys
from dle_serving.models.discovery import load_bundles
from dle_serving.models.runtime import Model
from dle_serving.models.served import ServedModel
from dle_serving.monitoring.metrics import Metrics
from dle_serving.monitoring.monitored_model import MonitoredModel
from dle_serving.settings import Settings

log = logging.getLogger(__name__)


class LoadState(Enum):
    """Where loading stands."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


class Repository:
    """Bundles by name and version; the first one answers where none is named."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._served: dict[tuple[str, int], ServedModel] = {}
        self.state = LoadState.LOADING
        self.reason = "the models are being loaded"

    def load(self) -> None:
        """Load every bundle; the outcome is in `state` and `reason`, for /readyz to tell."""
        try:
            for served in self._load_all():
                self._served[served.name, served.version] = served
        except DleError as error:
            log.error("loading failed: %s", error)
            self.state, self.reason = LoadState.FAILED, f"loading failed: {error}"
        except Exception:
            log.exception("loading failed")
            self.state, self.reason = LoadState.FAILED, "loading failed: internal error, told in the server's log"
        else:
            self.state, self.reason = LoadState.READY, ""

    def all(self) -> Sequence[ServedModel]:
        """Every model, in the order of the settings; raises NotReady."""
        self._check_ready()
        return tuple(self._served.values())

    @property
    def loaded(self) -> Sequence[ServedModel]:
        """Every model, or none while there is a reason for it."""
        return tuple(self._served.values()) if self.state is LoadState.READY else ()

    def monitored(self) -> Sequence[MonitoredModel]:
        """What is to be watched of these."""
        return [served.monitored for served in self.loaded]

    async def count(self) -> None:
        """Count what this process has answered, a slice a turn of the event loop."""
        for model in self.monitored():
            while model.observations is not None and model.observations.count_some():
                await asyncio.sleep(0)

    def find(self, name: str | None = None, version: str | None = None) -> ServedModel:
        """The model of that name (None: the first one) and version (None: its highest).

        Raises NotReady, NotFound.
        """
        self._check_ready()
        if name is None:
            return next(iter(self._served.values()))
        versions = {number: served for (known, number), served in self._served.items() if known == name}
        if not versions:
            known = ", ".join(dict.fromkeys(repr(known) for known, _ in self._served))
            raise NotFound(f"expected a model of {known}, got {name[:100]!r}")
        if version is None:
            return versions[max(versions)]
        found = versions.get(int(version)) if version.isascii() and version.isdigit() and len(version) < 20 else None
        if found is None:
            raise NotFound(f"expected a version of {', '.join(map(str, sorted(versions)))}, got {version[:100]!r}")
        return found

    def _check_ready(self) -> None:
        if self.state is not LoadState.READY:
            fault = Fault(None, None, self.state.value, self.reason)
            raise NotReady(self.reason, [fault], retry_after=1 if self.state is LoadState.LOADING else 30)

    def _load_all(self) -> Iterable[ServedModel]:
        settings = self._settings
        keys = load_signing_keys(settings.signing_keys_file, create=settings.token_keys_file is None)
        for bundle in load_bundles(settings.bundles):
            started = time.perf_counter()
            model = Model(bundle, settings.device, settings.threads)
            model.warm_up((1, 2, settings.batch_rows))
            served = ServedModel(bundle, model, keys, settings, self._metrics)
            seconds = time.perf_counter() - started
            log.info("loaded %s version %d on %s in %.2f s", served.name, served.version, served.provider, seconds)
            yield served
