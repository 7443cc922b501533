"""What we rely on in BentoML beyond its documentation; an upgrade that moves it fails here, with the reason."""

import importlib.metadata
import inspect
import os
import re
from pathlib import Path
from typing import Any, cast

import bentoml
import click
import pytest
import uvicorn
from _bentoml_impl.server import serving  # type: ignore[import-untyped]
from _bentoml_impl.worker import service as worker  # type: ignore[import-untyped]
from _bentoml_sdk import Service as BentoService  # type: ignore[import-untyped]
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.context import server_context
from bentoml._internal.service import loader
from bentoml.serving import create_watcher
from bentoml_cli.cli import cli
from tests import bundles

from dle_serving import service
from dle_serving.app import Application
from dle_serving.routes import docs
from dle_serving.server import worker as ours
from dle_serving.service import WrappedService

Service: Any = service.Service


def test_the_version_is_the_one_that_was_read() -> None:
    assert importlib.metadata.version("bentoml") == "1.4.39", "read to_asgi, serving and worker again, then change this"


def test_a_service_class_can_be_given() -> None:
    assert "service_class" in inspect.signature(bentoml.service).parameters
    assert isinstance(Service, WrappedService)
    assert isinstance(Service, BentoService)
    assert Service.name == "dle"


def test_the_worker_asks_the_service_for_its_application() -> None:
    assert list(inspect.signature(BentoService.to_asgi).parameters) == ["self", "is_main"]
    assert "asgi_app = service.to_asgi(" in inspect.getsource(worker)


def test_our_application_stands_in_front(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLE_BUNDLES", str(tmp_path))
    monkeypatch.setattr("dle_serving.service.end_with_parent", lambda: None)
    assert isinstance(Service.to_asgi(), Application)


def test_the_deployment_hook_is_called_before_the_workers_start() -> None:
    source = inspect.getsource(serving.serve_http)
    assert source.index("server_on_deployment(svc)") < source.index("arbiter.start(")
    assert Service.inner.prepare.__bentoml_deployment_hook__


def test_dead_workers_are_replaced_also_in_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bundles.write(tmp_path / "b")
    variables = {"DLE_BUNDLES": "b", "DLE_BENTO_MODELS": "", "DLE_HOME": "h", "DLE_INSECURE": "true"}
    monkeypatch.setenv(service._PREPARED, "")  # so that it is as before afterwards
    for name, value in {**variables, "BENTOML_CONTAINERIZED": "true"}.items():
        monkeypatch.setenv(name, value)
    Service.inner.prepare()
    assert "BENTOML_CONTAINERIZED" not in os.environ
    service._LOCKS.pop().release()
    assert os.environ["DLE_HOME"] == str(tmp_path / "h")
    assert Path(os.environ["DLE_BUNDLES"]).parent == tmp_path / "h" / "bundles"
    assert os.environ[service._PREPARED] == "true"
    # the hook comes before BentoML looks at the variable, and the workers get the environment that it leaves
    source = inspect.getsource(serving.serve_http)
    assert source.index("server_on_deployment(svc)") < source.index("watchers.append(\n            create_watcher(")
    source = inspect.getsource(create_watcher)
    assert "respawn=not running_inside_container()," in source
    assert "copy_env=True," in source


def test_a_bento_tells_its_service_which_models_it_holds() -> None:
    assert "svc.bento = bento" in inspect.getsource(BentoService.on_load_bento)
    source = inspect.getsource(loader._load_bento)
    assert source.index("import_service(") < source.index("svc.on_load_bento(bento)")


def test_the_address_is_that_of_the_command_line_or_of_the_configuration() -> None:
    command: Any = cast(Any, cli).commands["serve"]
    (option,) = [parameter for parameter in command.params if parameter.name == "host"]
    assert option.envvar == "BENTOML_HOST"
    assert BentoMLContainer.http.host.get() == service._host() == "0.0.0.0"
    with click.Context(command) as context:
        context.params = {"host": None}
        assert service._host() == "0.0.0.0"
        context.params = {"host": "127.0.0.1"}
        assert service._host() == "127.0.0.1"
    assert "host=host" in inspect.getsource(inspect.unwrap(command.callback))


def test_the_workers_of_bentoml_inherit_what_the_hook_sets() -> None:
    source = inspect.getsource(serving.serve_http)
    assert source.index("server_on_deployment(svc)") < source.index("create_watcher(")
    assert "copy_env=True" in inspect.getsource(create_watcher)


def test_our_worker_makes_the_context_that_the_worker_of_bentoml_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that it sets, and that the arguments of the command leave to it."""
    source = inspect.getsource(inspect.unwrap(worker.main.callback))
    known = {"worker_index", "service_type", "service_name", "service_routes", "bento_name", "bento_version"}
    assert set(re.findall(r"server_context\.(\w+) = ", source)) == known
    assert set(re.findall(r"BentoMLContainer\.(\w+)\.set", source)) == {"remote_runner_mapping", "development_mode"}
    monkeypatch.setattr(server_context, "service_name", None)
    monkeypatch.setattr(WrappedService, "to_asgi", lambda self, is_main: (self.name, is_main))
    assert ours._application("dle_serving.service:Service") == ("dle", True)
    assert (server_context.service_name, server_context.bento_name) == ("dle", "dle")
    assert server_context.service_type == "entry_service"


def test_uvicorn_closes_the_socket_that_it_was_given() -> None:
    source = inspect.getsource(uvicorn.Server.shutdown)
    assert source.index("sock.close()") < source.index("connection.shutdown()")


def test_our_server_makes_the_connections_that_uvicorn_makes() -> None:
    source = inspect.getsource(uvicorn.Server.startup)
    made = "return config.http_protocol_class(*config=config, server_state=self.server_state, app_state=self.lifespan."
    assert re.search(made.replace("(*", r"\(.*").replace(", ", r",\s*"), source, re.DOTALL)


def test_swagger_ui_comes_with_it() -> None:
    for name in docs.ASSET_TYPES:
        assert (docs.ASSETS / name).stat().st_size > 100
