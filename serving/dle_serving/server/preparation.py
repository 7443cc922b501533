"""What happens once before the workers of a server start: checks, and the files that the workers share."""

import os
import sys
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path

from dle_bundle.errors import WorkError
from dle_bundle.locks import Lock
from dle_serving.auth import check_start
from dle_serving.feedback.databases import StoreError
from dle_serving.feedback.ids import load_signing_keys
from dle_serving.feedback.side_thread import SideThread
from dle_serving.feedback.store import DEADLINE_SECONDS, NewerStore, open_store
from dle_serving.models.copies import copy_bundles
from dle_serving.models.discovery import load_bundles
from dle_serving.server.roster import Roster
from dle_serving.settings import ServerSettings, unknown_variables


def prepare(settings: ServerSettings, host: str) -> tuple[ServerSettings, Lock]:
    """Check everything, claim `settings.home` and create the files that the workers share there.

    Returns the settings of the workers, which load copies of the bundles, and the lock on the directory, which is held
    until it is released or the process ends. Warnings go to standard error.

    Raises InputError for settings, keys or bundles that cannot be used, NewerStore, and WorkError if another server
    uses the directory or the disk refuses.
    """
    check_start(settings, host)
    bundles = load_bundles(settings.bundles)
    _warn(settings)
    try:
        lock = _claim(settings.home)
        try:
            load_signing_keys(settings.signing_keys_file, create=settings.token_keys_file is None)
            _check_store(settings)
            copies = copy_bundles(bundles, settings.home.resolve() / "bundles")
            Roster(settings.home, settings.workers).reset()
        except BaseException:
            lock.release()
            raise
    except OSError as error:
        raise WorkError(f"DLE_HOME: {error.filename or settings.home}: {error.strerror or error}") from error
    return replace(settings, bundles=copies), lock


def _claim(home: Path) -> Lock:
    """Take the lock on `home`; raises WorkError when another server holds it or `home` cannot be created."""
    try:
        lock = Lock(home)
    except OSError as error:
        raise WorkError(f"DLE_HOME: {home} cannot be created: {error.strerror}") from None
    if not lock.acquire():
        raise WorkError(f"{home} is in use by another server: set DLE_HOME to a directory of its own")
    return lock


def _warn(settings: ServerSettings) -> None:
    for name in unknown_variables(os.environ):
        _warning(f"{name} is set, but is no setting of this service")
    several = "KUBERNETES_SERVICE_HOST" in os.environ or settings.feedback_store is not None
    if several and settings.token_keys_file is None:
        _warning(
            "DLE_TOKEN_KEYS_FILE is not set: each replica signs prediction ids with its own key, so only the replica "
            "that made a prediction accepts feedback on it"
        )


def _check_store(settings: ServerSettings) -> None:
    """Connect to the feedback store and create its tables. An unreachable store is only a warning."""
    store = open_store(settings.feedback_store, settings.home)
    checking = SideThread("check").submit(store.check)
    try:
        if not wait([checking], DEADLINE_SECONDS).done:
            raise StoreError(f"no response within {DEADLINE_SECONDS:g} s")
        checking.result()
    except NewerStore:
        raise
    except StoreError as error:
        _warning(f"the feedback store cannot be reached; POST /feedback returns 503 until it can: {error}")
    finally:
        store.close()


def _warning(text: str) -> None:
    sys.stderr.write(f"Warning: {text}\n")
