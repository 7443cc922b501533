"""The models of a server: bundles are found, verified, opened and warmed up before the first prediction.

Loading runs in a thread of its own, so that /livez and /readyz respond from the start.
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
from dle_serving.settings import ServerSettings

log = logging.getLogger(__name__)


class LoadState(Enum):
    """The state of loading."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


class Repository:
    """The loaded models by name and version; requests that name no model use the first one.

    Threads
    -------
    `load` runs once, in a thread of its own; everything else is called by the event loop. Other threads may read
    `state`, `all`, `loaded`, `monitored` and `find` at any time: the models become visible together, when `state`
    changes to READY, and never change afterwards.

    Ownership
    ---------
    The repository creates the models. Its caller closes each of `loaded`.

    Failures
    --------
    `load` raises nothing. One bundle that cannot be loaded makes the whole server FAILED, with the cause in `reason`
    and in the log; `all` and `find` then raise NotReady, which becomes status 503.
    """

    def __init__(self, settings: ServerSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._served: dict[tuple[str, int], ServedModel] = {}
        self.state = LoadState.LOADING
        self.reason = "the models are still loading"

    def load(self) -> None:
        """Load every bundle; the outcome is in `state` and `reason`."""
        try:
            for served in self._load_all():
                self._served[served.name, served.version] = served
        except (DleError, OSError) as error:  # such as an altered bundle or a full disk
            self.fail(f"loading failed: {error}")
        except Exception:
            log.exception("loading failed")
            self.state, self.reason = LoadState.FAILED, "loading failed: internal error; the server's log shows it"
        else:
            self.state, self.reason = LoadState.READY, ""

    def fail(self, reason: str) -> None:
        """Make the whole server FAILED."""
        log.error("%s", reason)
        self.state, self.reason = LoadState.FAILED, reason

    def all(self) -> Sequence[ServedModel]:
        """All models, in the order of DLE_BUNDLES; raises NotReady."""
        self._check_ready()
        return tuple(self._served.values())

    @property
    def loaded(self) -> Sequence[ServedModel]:
        """All models, or none unless the state is READY."""
        return tuple(self._served.values()) if self.state is LoadState.READY else ()

    def monitored(self) -> Sequence[MonitoredModel]:
        """What monitoring needs of each loaded model."""
        return [served.monitored for served in self.loaded]

    async def count(self) -> None:
        """Count this process's new predictions, one slice per iteration of the event loop.

        If the counting of a model fails, the log says so, and the other models are counted.
        """
        for model in self.monitored():
            try:
                while model.observations is not None and model.observations.count_some():
                    await asyncio.sleep(0)
            except Exception:
                log.exception("%s version %d: some predictions are not counted for drift", model.name, model.version)

    def find(self, name: str | None = None, version: str | None = None) -> ServedModel:
        """The model with this name (None: the first model) and version (None: its highest).

        Raises NotReady, and NotFound for an unknown name or version.
        """
        self._check_ready()
        if name is None:
            return next(iter(self._served.values()))
        versions = {number: served for (known, number), served in self._served.items() if known == name}
        if not versions:
            known = ", ".join(dict.fromkeys(repr(known) for known, _ in self._served))
            raise NotFound(f"unknown model {name[:100]!r}: expected one of {known}")
        if version is None:
            return versions[max(versions)]
        found = versions.get(int(version)) if version.isascii() and version.isdigit() and len(version) < 20 else None
        if found is None:
            raise NotFound(
                f"unknown version {version[:100]!r}: expected one of {', '.join(map(str, sorted(versions)))}"
            )
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
            served = ServedModel(bundle, model, keys, settings, self._metrics)
            seconds = time.perf_counter() - started
            log.info("loaded %s version %d on %s in %.2f s", served.name, served.version, served.provider, seconds)
            yield served
