"""schemathesis makes requests from the service's own OpenAPI document: valid ones, and others.

The service answers each as its document says, and never with a defect: of 500 and above only with 503 and 504.
"""

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)
from tests import bundles
from tests.inprocess import InProcess

from dle_serving.settings import ServerSettings

ALWAYS = [status_code_conformance, content_type_conformance, response_schema_conformance]
MODELS = {"income": bundles.INCOME, "price": bundles.PRICE, "review": bundles.REVIEW, "digit": bundles.DIGIT}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    folder = tmp_path_factory.mktemp("contract")
    for place, (name, schema) in enumerate(MODELS.items()):
        bundles.write(folder / "bundles" / str(place), schema, name=name)
    running = InProcess(ServerSettings(bundles=(folder / "bundles",), home=folder / "home"))
    yield running
    running.close()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "invalid"])
def test_requests_made_from_the_document_are_answered_as_it_says(service: InProcess, mode: GenerationMode) -> None:
    checks = [*ALWAYS, negative_data_rejection] if mode is GenerationMode.NEGATIVE else ALWAYS
    document = schemathesis.openapi.from_dict(service.get("/openapi.json").json())
    operations: list[Any] = [cast(Any, found).ok() for found in document.get_all_operations()]

    @given(st.data())
    @settings(max_examples=20 * len(operations), suppress_health_check=list(HealthCheck))
    def ask(data: st.DataObject) -> None:
        case = data.draw(data.draw(st.sampled_from(operations)).as_strategy(mode))
        given_ = case.as_transport_kwargs("http://test")
        body = given_.get("json", given_.get("data"))
        content = body if isinstance(body, str | bytes) else b"" if body is None else json.dumps(body).encode()
        response = service.request(
            given_["method"], given_["url"], params=given_.get("params"), headers=given_["headers"], content=content
        )
        assert response.status_code < 500 or response.status_code in (503, 504)
        case.validate_response(response, checks=checks)

    ask()
