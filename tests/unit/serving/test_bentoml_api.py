"""The APIs that BentoML knows of, called within the process: they answer through the served models."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from bentoml.exceptions import BentoMLException, ServiceUnavailable
from tests import bundles

from dle_serving import auth, service
from dle_serving.app import Application

Service: Any = service.Service
ROW = dict(bundles.EXAMPLE)
NAMES = {"predict": "rows", "feedback": "items"}


@pytest.fixture
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Application]:
    """The application that a worker makes, with keys and with BentoML's own application inside."""
    _, entry = auth.make("everything", ["admin"])
    (tmp_path / "keys").write_text(entry.line())
    monkeypatch.setenv("DLE_BUNDLES", str(bundles.write(tmp_path / "income")))
    monkeypatch.setenv("DLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DLE_API_KEYS_FILE", str(tmp_path / "keys"))
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    monkeypatch.setattr("dle_serving.service.end_with_parent", lambda: None)
    monkeypatch.setattr("dle_serving.service.log_plainly", lambda who: None)
    monkeypatch.setattr(Service, "application", None)
    made = Service.to_asgi()
    yield made
    made.close()


def running(application: Application, ask: Callable[[], Awaitable[Any]]) -> Any:
    """What `ask` returns while the models are loaded."""

    async def run() -> Any:
        await application.load()
        return await ask()

    return asyncio.run(run())


def test_a_method_predicts_through_the_served_model_and_takes_feedback(application: Application) -> None:
    async def ask() -> tuple[Any, Any]:
        instance = Service()
        predicted = await instance.predict.local(rows=[ROW])
        items = [{"id": predicted.predictions[0]["id"], "actual": ">50K"}]
        return predicted, await instance.feedback.local(items=items)

    predicted, outcome = running(application, ask)
    assert (predicted.model, predicted.version) == ("income", 1)
    (prediction,) = predicted.predictions
    assert set(prediction) == {"id", "label", "probability", "probabilities"}
    assert (outcome.accepted, outcome.duplicates, outcome.rejected) == (1, 0, [])
    text = application.metrics.exposition().decode()
    assert 'dle_predictions_total{model="income",version="1"} 1.0' in text.splitlines()


# a warning about BentoML's own use of pydantic
@pytest.mark.filterwarnings("ignore:Accessing the 'model_fields' attribute")
def test_the_route_of_bentomls_own_application_does_the_same(application: Application) -> None:
    inner: Any = application._inner  # no request reaches it; calls between services of one process do

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=inner)
        async with (
            inner.router.lifespan_context(inner),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            return [await client.post("/predict", json={"rows": rows}) for rows in ([ROW], [{"age": "x"}])]

    fine, wrong = running(application, ask)
    assert fine.status_code == 200, fine.text
    assert fine.json()["predictions"][0].keys() == {"id", "label", "probability", "probabilities"}
    assert wrong.status_code == 400


def test_an_error_is_an_exception_of_bentoml_with_its_status(application: Application) -> None:
    with pytest.raises(BentoMLException) as caught:
        running(application, lambda: Service().predict.local(rows=[{"age": "x"}]))
    assert caught.value.error_code is HTTPStatus.BAD_REQUEST
    assert {detail["code"] for detail in json.loads(str(caught.value))["details"]} == {"type", "missing"}


def test_the_models_are_those_of_the_variable_or_of_the_bento(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(service, "bundle_of", lambda tag: tmp_path / tag)
    info = SimpleNamespace(all_models=[SimpleNamespace(tag="held:1"), SimpleNamespace(tag="more:2")])
    monkeypatch.setattr(Service, "bento", SimpleNamespace(info=info))
    held, more, given = (tmp_path / name for name in ("held:1", "more:2", "given:3"))
    for variables, expected in (
        ({}, (held, more)),
        ({"DLE_BENTO_MODELS": ""}, (held, more)),
        ({"DLE_BENTO_MODELS": "given:3"}, (given,)),
        ({"DLE_BUNDLES": "folder"}, (Path("folder"), held, more)),
    ):
        for name in ("DLE_BUNDLES", "DLE_BENTO_MODELS"):
            monkeypatch.delenv(name, raising=False)
        for name, text in variables.items():
            monkeypatch.setenv(name, text)
        assert Service.settings().bundles == expected


def test_a_worker_serves_what_the_supervisor_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "bundle_of", lambda tag: tmp_path / tag.replace(":", "-"))
    monkeypatch.setenv("DLE_BUNDLES", str(tmp_path / "folder"))
    monkeypatch.setenv("DLE_BENTO_MODELS", "price:1")
    found = Service.settings()
    for name, text in found.places().items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv(service._PREPARED, "true")
    assert Service.settings().bundles == found.bundles == (tmp_path / "folder", tmp_path / "price-1")


def test_without_a_server_a_method_says_what_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Service, "application", None)
    with pytest.raises(ServiceUnavailable, match=r"dle_serving\.load\(BUNDLE\)"):
        asyncio.run(Service().predict.local(rows=[ROW]))


def test_the_description_names_what_the_routes_take(application: Application) -> None:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=application)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.post("/predict", json={"rows": [ROW]})).status_code == 401
            return await client.get("/schema.json")

    response = running(application, ask)
    described = response.json()
    assert described == Service.schema()
    assert {route["name"]: next(iter(route["input"]["properties"])) for route in described["routes"]} == NAMES
    assert all(route["route"] == f"/{route['name']}" for route in described["routes"])
