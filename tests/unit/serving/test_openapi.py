import json
from typing import Any

from openapi_spec_validator import OpenAPIV31SpecValidator
from tests import bundles
from tests.inprocess import InProcess


def walk(value: Any) -> Any:
    yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(inner)


def test_the_document_is_valid(service: InProcess) -> None:
    document = service.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(document).validate()


def test_it_has_the_inputs_of_every_model(service: InProcess) -> None:
    document = service.get("/openapi.json").json()
    row = document["components"]["schemas"]["Rows-income-1"]["properties"]["rows"]["items"]
    assert list(row["properties"]) == [field.name for field in bundles.INCOME.inputs]
    assert row["required"] == ["age", "married"]
    assert row["additionalProperties"] is False
    assert row["properties"]["age"] == {
        "type": "number",
        "x-unit": "years",
        "x-observed-range": [17.0, 90.0],
        "examples": [38.0],
    }
    assert row["properties"]["workclass"]["type"] == ["string", "null"]
    assert row["properties"]["workclass"]["x-observed-categories"] == list(bundles.WORKCLASSES)
    assert row["properties"]["zone"]["type"] == ["string", "integer", "null"]
    paths = {"/predict", "/schema", "/livez", "/readyz", "/metrics", "/openapi.json", "/docs", "/drift", "/feedback"}
    paths |= {"/healthz", "/schema.json"}
    for model, version in (("income", 1), ("digit", 9), ("digit", 10), ("price", 1), ("spam", 1)):
        for prefix in (f"/models/{model}", f"/models/{model}/versions/{version}"):
            paths |= {f"{prefix}/predict", f"{prefix}/schema", f"{prefix}/drift"}
    assert set(document["paths"]) == paths
    label = document["components"]["schemas"]["Predictions-digit-9"]["properties"]["predictions"]["items"]
    assert label["properties"]["label"]["enum"] == [0, 1, 2]
    answer = document["paths"]["/models/digit/predict"]["post"]["responses"]["200"]
    assert answer["content"]["application/json"]["schema"]["$ref"].endswith("/Predictions-digit-10")


def test_what_was_observed_is_never_a_limit(service: InProcess) -> None:
    schemas = service.get("/openapi.json").json()["components"]["schemas"]
    for name, schema in schemas.items():
        if name.startswith("Rows-"):
            for part in walk(schema):
                assert not isinstance(part, dict) or not {"minimum", "maximum", "enum", "pattern"} & set(part)


def test_its_examples_are_taken(service: InProcess) -> None:
    document = service.get("/openapi.json").json()
    tried = 0
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if "requestBody" in operation:
                reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
                for example in document["components"]["schemas"][reference.rpartition("/")[2]]["examples"]:
                    assert service.post(path, json=example).status_code == 200, (path, example)
                    tried += 1
    assert tried == 11  # /predict, four names, five versions, /feedback


def test_what_drift_answers_is_what_it_says(service: InProcess) -> None:
    schemas = service.get("/openapi.json").json()["components"]["schemas"]
    found = service.get("/drift?bins=true").json()
    for name, part in (("DriftReport", found), ("Shift", found["features"][0]), ("Score", found["accuracy"])):
        assert set(schemas[name]["required"]) <= set(part) <= set(schemas[name]["properties"])
    assert set(found["prediction"]["bins"][0]) == set(schemas["BinShare"]["required"])


def test_every_route_tells_every_error(service: InProcess) -> None:
    document = service.get("/openapi.json").json()
    for operations in document["paths"].values():
        for operation in operations.values():
            for code, response in operation["responses"].items():
                if code != "200":
                    assert response["content"]["application/json"]["schema"]["$ref"].endswith("/Error")
    found = set(document["paths"]["/predict"]["post"]["responses"])
    assert found == {"200", "400", "405", "413", "415", "500", "503", "504"}
    assert "NaN" not in json.dumps(document)
