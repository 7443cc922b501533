"""Images, series and text over HTTP: every form of a request is answered alike, every fault is told by its field."""

import asyncio
import base64
import io
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from PIL import Image
from tests import bundles, graphs
from tests.inprocess import InProcess, assert_is_error

from dle_bundle.groups import Groups
from dle_bundle.images import pixels as images
from dle_bundle.rows import decoder as decoding
from dle_bundle.schema import ImageShape, Schema
from dle_serving.monitoring import observations as monitoring
from dle_serving.predictions import Predictions

SCHEMAS = {
    "picture": bundles.PICTURE,
    "signal": bundles.SIGNAL,
    "review": bundles.REVIEW,
    "forecast": bundles.FORECAST,
    "promotion": bundles.PROMOTION,
}
GROUPS = bundles.groups(bundles.PICTURE, 3, seed=5)
PICTURES = [bundles.png(pixels) for pixels in np.asarray(GROUPS.image)]


def post(service: InProcess, model: str, rows: list[Any], **more: Any) -> Any:
    return service.post(f"/models/{model}/predict", json={"rows": rows}, **more)


def predictions(response: Any) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["predictions"]
    return found


def faults(response: Any) -> list[tuple[Any, ...]]:
    details = assert_is_error(response, 400)["details"]
    return [(detail["row"], detail["field"], detail["code"], detail["message"]) for detail in details]


@pytest.mark.parametrize("model", SCHEMAS)
@pytest.mark.parametrize("count", [1, 5, 40])
def test_rows_are_answered_as_the_graph_says(inputs: InProcess, model: str, count: int) -> None:
    schema = SCHEMAS[model]
    found = predictions(post(inputs, model, bundles.rows(schema, count, seed=7)))
    expected = graphs.answers(schema, bundles.groups(schema, count, seed=7))
    if schema.outputs.horizon > 1:
        assert all(list(each) == ["id", "values"] for each in found)
        np.testing.assert_allclose([each["values"] for each in found], expected, rtol=1e-4, atol=1e-4)
    else:
        given = [list(each["probabilities"].values()) for each in found]
        np.testing.assert_allclose(given, expected, atol=1e-5)


def test_an_image_is_taken_in_every_form(inputs: InProcess) -> None:
    text = base64.b64encode(PICTURES[0]).decode()
    answers = [
        *predictions(post(inputs, "picture", [{"photo": text}])),
        *predictions(post(inputs, "picture", [{"photo": f"data:image/png;base64,{text}"}])),
        *predictions(post(inputs, "picture", [{"photo": f"  {text[:40]}\n{text[40:]}\n"}])),
        *predictions(inputs.post("/predict", content=PICTURES[0], headers={"content-type": "image/png"})),
        # what it is, its first bytes tell
        *predictions(inputs.post("/predict", content=PICTURES[0], headers={"content-type": "image/jpeg; q=1"})),
        *predictions(inputs.post("/predict", content=PICTURES[0], headers={"content-type": "image/jpg"})),
        *predictions(inputs.post("/predict?ids=false", content=PICTURES[0], headers={"content-type": "IMAGE/BMP"})),
    ]
    assert len({str(each["probabilities"]) for each in answers}) == 1
    assert "id" not in answers[-1]


@pytest.mark.parametrize("kind", ["jpeg", "gif", "bmp", "webp", "tiff", "ppm"])
def test_every_format_is_a_body(inputs: InProcess, kind: str) -> None:
    out = io.BytesIO()
    Image.new("RGB", (40, 30), (250, 250, 250)).save(out, kind)
    media = "image/x-portable-pixmap" if kind == "ppm" else f"image/{kind}"
    (found,) = predictions(inputs.post("/predict", content=out.getvalue(), headers={"content-type": media}))
    assert found["label"] == "day"


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "empty"), (PICTURES[0][:-30], "truncated"), (b"GIF89", "not an image")]
)
def test_a_body_that_is_no_image_is_told(inputs: InProcess, content: bytes, message: str) -> None:
    response = inputs.post("/predict", content=content, headers={"content-type": "image/png"})
    assert faults(response) == [(0, "photo", "image", f"the image cannot be read: {message}")]
    told = inputs.get("/metrics").text
    assert 'dle_invalid_rows_total{code="image"} 1.0' in told


def test_too_many_pixels_are_refused_before_one_is_decoded(inputs: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = inputs.app.repository.find("picture").decoder
    with Image.open(io.BytesIO(PICTURES[0])) as image:
        each = image.width * image.height
    monkeypatch.setattr(decoder, "_most_pixels", 2 * each)
    text = base64.b64encode(PICTURES[0]).decode()
    predictions(post(inputs, "picture", [{"photo": text}] * 2))
    decoded: list[bytes] = []
    monkeypatch.setattr(images, "decode", lambda content, shape: decoded.append(content))
    body = assert_is_error(post(inputs, "picture", [{"photo": text}] * 3), 413)
    assert body["error"] == (
        f"expected at most {2 * each:,} pixels in all images of a request, found {3 * each:,}; "
        "send fewer, or raise DLE_MAX_PIXELS"
    )
    monkeypatch.setattr(decoder, "_most_pixels", each - 1)
    assert_is_error(inputs.post("/predict", content=PICTURES[0], headers={"content-type": "image/png"}), 413)
    assert decoded == []


def test_requests_with_images_take_turns(inputs: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client with many large images does not hold up the others until its last one."""
    monkeypatch.setattr(decoding, "_TURN_PIXELS", 1)
    one = ThreadPoolExecutor(1)
    monkeypatch.setattr(inputs.app._predict, "_decoding", one)
    decoded: list[bytes] = []
    decode = images.decode

    def noting(content: bytes, shape: ImageShape) -> images.Pixels:
        decoded.append(content)
        return decode(content, shape)

    monkeypatch.setattr(images, "decode", noting)
    many, single = (base64.b64encode(content).decode() for content in PICTURES[:2])
    answers = inputs.together(
        ("/models/picture/predict", {"json": {"rows": [{"photo": many}] * 12}}),
        ("/models/picture/predict", {"json": {"rows": [{"photo": single}]}}),
    )
    one.shutdown()
    assert [len(predictions(answer)) for answer in answers] == [12, 1]
    assert len(decoded) == 13
    assert decoded.index(PICTURES[1]) < 6


def test_all_faults_of_all_rows_are_told(inputs: InProcess) -> None:
    cut = base64.b64encode(PICTURES[0][:60]).decode()
    rows = [{"photo": cut}, {"photo": base64.b64encode(PICTURES[1]).decode()}, {"photo": "%"}, {"photo": 3}, {}]
    rows += [{"photo": " "}, {"photo": "NaN"}, {"photo": "", "size": 3}]
    assert [fault[:3] for fault in faults(post(inputs, "picture", rows))] == [
        (0, "photo", "image"),
        (2, "photo", "image"),
        (3, "photo", "type"),
        (4, "photo", "missing"),
        (5, "photo", "missing"),
        (6, "photo", "missing"),
        (7, "size", "unknown"),
        (7, "photo", "missing"),
    ]


def test_what_is_wrong_with_a_series_is_told_by_step(inputs: InProcess) -> None:
    rows: list[Any] = [
        {"signal": [[1, 2], [3]]},
        {"signal": []},
        {"signal": [[1, 2]]},
        {"signal": [[1, "x"], [None, 2]]},
    ]
    rows += [{"signal": [[1, 2]] * 51}, {"signal": "1,2"}, {"signal": None}]
    found = faults(post(inputs, "signal", rows))
    assert [fault[:3] for fault in found] == [
        (0, "signal", "sequence"),
        (1, "signal", "sequence"),
        (3, "signal", "sequence"),
        (4, "signal", "sequence"),
        (5, "signal", "type"),
        (6, "signal", "missing"),
    ]
    assert found[0][3] == "step 1: expected 2 numbers, got 1"
    body = b'{"rows":[{"signal":[[1,2],[NaN,3]]}]}'
    ((row, field, code, message),) = faults(inputs.post("/models/signal/predict", content=body))
    assert (row, field, code) == (0, "signal", "sequence")
    assert "step 1, channel x: expected a finite number" in message


def test_a_text_that_is_empty_is_missing(inputs: InProcess) -> None:
    rows: list[Any] = [{"text": ""}, {"text": " \n"}, {"text": "it fits"}, {"text": 7}, {"age": "old"}, {"text": "N/A"}]
    assert [fault[:3] for fault in faults(post(inputs, "review", rows))] == [
        (0, "text", "missing"),
        (1, "text", "missing"),
        (3, "text", "type"),
        (4, "text", "missing"),
        (4, "age", "type"),
    ]


def test_one_channel_needs_no_nesting(inputs: InProcess) -> None:
    flat, nested = predictions(post(inputs, "forecast", [{"sequence": [1, None, 3]}, {"sequence": [[1], [None], [3]]}]))
    assert flat["values"] == nested["values"]


@pytest.mark.parametrize("media", ["text/plain", "application/octet-stream", "image/svg+xml", "multipart/form-data"])
def test_other_media_are_refused(inputs: InProcess, media: str) -> None:
    said = assert_is_error(inputs.post("/predict", content=PICTURES[0], headers={"content-type": media}), 415)["error"]
    assert "application/json" in said
    assert "image/png" in said


@pytest.mark.parametrize("model", ["signal", "review", "forecast"])
def test_images_are_refused_by_models_that_take_none(inputs: InProcess, model: str) -> None:
    headers = {"content-type": "image/png"}
    response = inputs.post(f"/models/{model}/predict", content=PICTURES[0], headers=headers)
    assert "expected content-type application/json, got 'image/png'" in assert_is_error(response, 415)["error"]


def test_what_is_too_large_is_refused(inputs: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {"content-type": "image/png"}
    assert_is_error(inputs.post("/predict", content=b"x" * 200_001, headers=headers), 413)
    monkeypatch.setattr(decoding, "MOST_BYTES", 3_000)
    rows = bundles.rows(bundles.PICTURE, 6)
    assert "at most 5 rows" in assert_is_error(post(inputs, "picture", rows), 413)["error"]
    assert len(predictions(post(inputs, "picture", rows[:5]))) == 5
    # short ones are padded to the longest
    ragged = [{"signal": [[1, 2]] * 50}, *[{"signal": [[1, 2]]}] * 7]
    assert "at most 7 rows" in assert_is_error(post(inputs, "signal", ragged), 413)["error"]


def test_requests_of_different_lengths_are_answered_together(inputs: InProcess) -> None:
    lengths = [1, 50, 3, 20, 7, 2]
    rows = [{"signal": [[float(step), 1.0] for step in range(length)]} for length in lengths]
    alone = [predictions(post(inputs, "signal", [row]))[0]["probabilities"] for row in rows]
    path = "/models/signal/predict"
    together = [predictions(each) for each in inputs.together(*((path, {"json": {"rows": [row]}}) for row in rows))]
    for one, (other,) in zip(alone, together, strict=True):
        assert one == pytest.approx(other["probabilities"], abs=1e-6)
    texts = ["good", "the small wool fits well " * 10, "bad bad"]
    path = "/models/review/predict"
    bodies = [(path, {"json": {"rows": [{"text": text}]}}) for text in texts]
    alone = [predictions(inputs.post(path, **body))[0]["probabilities"] for path, body in bodies]
    for one, response in zip(alone, inputs.together(*bodies), strict=True):
        assert one == pytest.approx(predictions(response)[0]["probabilities"], abs=1e-6)


def test_neither_decoding_nor_answering_holds_up_the_event_loop(
    inputs: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, threads = threading.get_ident(), set()
    decode, run = images.decode, inputs.app.repository.find("picture")._model.run

    def noted(call: Any) -> Any:
        def work(*arguments: Any) -> Any:
            threads.add(threading.get_ident())
            return call(*arguments)

        return work

    monkeypatch.setattr(images, "decode", noted(decode))
    monkeypatch.setattr(inputs.app.repository.find("picture")._model, "run", noted(run))
    predictions(inputs.post("/predict", content=PICTURES[0], headers={"content-type": "image/png"}))
    predictions(post(inputs, "picture", bundles.rows(bundles.PICTURE, 20)))
    assert threads
    assert loop not in threads


def test_the_contract_is_valid_and_its_examples_are_taken(inputs: InProcess) -> None:
    document = inputs.get("/openapi.json").json()
    OpenAPIV31SpecValidator(document).validate()
    schemas = document["components"]["schemas"]
    for path, operations in document["paths"].items():
        if "post" in operations:
            content = operations["post"]["requestBody"]["content"]
            name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
            for example in schemas[name]["examples"]:
                assert inputs.post(path, json=example).status_code == 200, path
            assert ("image/png" in content) == (path == "/predict" or "picture" in path)
    photo = schemas["Rows-picture-1"]["properties"]["rows"]["items"]["properties"]["photo"]
    assert (photo["type"], photo["contentEncoding"]) == ("string", "base64")
    signal = schemas["Rows-signal-1"]["properties"]["rows"]["items"]["properties"]["signal"]
    assert (signal["items"]["minItems"], signal["items"]["maxItems"], signal["maxItems"]) == (2, 2, 50)
    values = schemas["Predictions-forecast-1"]["properties"]["predictions"]["items"]["properties"]["values"]
    assert (values["minItems"], values["maxItems"]) == (3, 3)
    known = schemas["Rows-promotion-1"]["properties"]["rows"]["items"]["properties"]["known"]
    assert (known["minItems"], known["maxItems"], known["items"]["items"]) == (3, 3, {"type": "number"})
    assert known["description"].startswith("a list of the steps to forecast")


def test_values_that_are_known_in_advance(inputs: InProcess) -> None:
    """A value for each step of the forecast and each channel, or the fault that says what was expected."""
    (row,) = bundles.rows(bundles.PROMOTION, 1)
    known = row["known"]
    assert len(predictions(post(inputs, "promotion", [row, row]))) == 2
    wrong: dict[str, Any] = {
        "absent": {name: value for name, value in row.items() if name != "known"},
        "null": {**row, "known": None},
        "short": {**row, "known": known[:2]},
        "long": {**row, "known": [*known, known[0]]},
        "value": {**row, "known": [known[0], [1.0, None, 0.0], known[2]]},
        "width": {**row, "known": [[1.0, 0.0]] * 3},
        "text": {**row, "known": [["yes", 1.0, 0.0], *known[1:]]},
        "kind": {**row, "known": "yes"},
    }
    required = ("missing", "a value is required")
    expected = {
        "absent": required,
        "null": required,
        "short": ("sequence", "expected values for the 3 steps of the forecast, got 2"),
        "long": ("sequence", "expected values for the 3 steps of the forecast, got 4"),
        "value": ("missing", "a value is required: sky=clear at step 1"),
        "width": ("sequence", "; ".join(f"step {step}: expected 3 numbers, got 2" for step in range(3))),
        "text": ("sequence", "step 0, channel promo: expected a number, got a string ('yes')"),
        "kind": ("type", "expected a list of steps, got a string ('yes')"),
    }
    found = faults(post(inputs, "promotion", list(wrong.values())))
    assert [(field, code, message) for _, field, code, message in found] == [
        ("known", *expected[name]) for name in wrong
    ]


@pytest.mark.parametrize("model", SCHEMAS)
def test_the_schema_says_what_to_send(inputs: InProcess, model: str) -> None:
    schema = msgspec.convert(inputs.get(f"/models/{model}/schema").json(), Schema)
    assert schema == SCHEMAS[model]
    predictions(post(inputs, model, [{field.name: field.example for field in schema.inputs}]))


MOVED = {
    "picture": {"photo.brightness"},
    "signal": {"signal.x.level", "signal.y.level"},
    "review": {"text.length", "text.unknown"},
    "forecast": {"sequence.level"},
    "promotion": {"known.promo.level", "known.sky=grey.level"},
}


@pytest.mark.parametrize("model", SCHEMAS)
def test_drift_is_seen_in_what_describes_them(inputs: InProcess, model: str) -> None:
    schema = SCHEMAS[model]
    for seed in range(3):
        predictions(post(inputs, model, bundles.rows(schema, 100, seed=seed)))
    calm = inputs.get(f"/models/{model}/drift").json()
    assert (calm["rows"], {shift["verdict"] for shift in calm["features"]}) == (300, {"ok"})
    for seed in range(3):
        predictions(post(inputs, model, bundles.rows(schema, 100, seed=seed, shift=1.5)))
    found = inputs.get(f"/models/{model}/drift").json()
    assert {shift["feature"] for shift in found["features"] if shift["verdict"] == "drift"} >= MOVED[model] - {
        "text.length"
    }
    lines = [line for line in inputs.get("/metrics").text.splitlines() if line.startswith("dle_feature_bin_total{")]
    for name in MOVED[model]:
        own = [line for line in lines if f'model="{model}"' in line and f'feature="{name}"' in line]
        assert sum(float(line.rpartition(" ")[2]) for line in own) == 600


@pytest.mark.parametrize("model", SCHEMAS)
def test_slices_that_are_counted_stay_short(inputs: InProcess, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "_SLICE_CELLS", 40)
    observations = inputs.app.repository.find(model).monitored.observations
    assert observations is not None
    predictions(post(inputs, model, bundles.rows(SCHEMAS[model], 40)))
    predictions(post(inputs, model, bundles.rows(SCHEMAS[model], 7, seed=1)))
    slices = 1
    while observations.count_some():
        slices += 1
    assert slices > 5
    assert inputs.get(f"/models/{model}/drift").json()["rows"] == 47


def test_many_texts_are_tokenised_part_by_part(inputs: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise one long text would pad the tokens of all rows of a request to its length."""
    rows = bundles.rows(bundles.REVIEW, 60, seed=3)
    expected = predictions(post(inputs, "review", rows, params={"ids": "false"}))
    monkeypatch.setattr("dle_serving.models.served._TEXT_ROWS", 16)
    shapes: list[tuple[int, int]] = []
    model = inputs.app.repository.find("review")._model
    run = model.run

    def noting(groups: Groups) -> Predictions:
        assert groups.tokens is not None
        shapes.append(groups.tokens.shape)
        return run(groups)

    monkeypatch.setattr(model, "run", noting)
    found = predictions(post(inputs, "review", rows, params={"ids": "false"}))
    assert [each["label"] for each in found] == [each["label"] for each in expected]
    np.testing.assert_allclose(
        [list(each["probabilities"].values()) for each in found],
        [list(each["probabilities"].values()) for each in expected],
        atol=1e-6,
    )
    assert [rows for rows, _ in shapes] == [16, 16, 16, 12]
    assert inputs.get("/models/review/drift").json()["rows"] == 120


def test_feedback_on_a_horizon_takes_a_list(inputs: InProcess) -> None:
    first, second = predictions(post(inputs, "forecast", bundles.rows(bundles.FORECAST, 2)))
    near = [value + 0.5 for value in first["values"]]
    items: list[Any] = [
        {"id": first["id"], "actual": near},
        {"id": first["id"], "actual": near},
        {"id": first["id"], "actual": near[::-1]},
        {"id": second["id"], "actual": 1.5},
        {"id": second["id"], "actual": [1.5, 2]},
        {"id": second["id"], "actual": [1e39, 2, 3]},
    ]
    found = inputs.post("/feedback", json={"items": items}).json()
    assert (found["accepted"], found["duplicates"]) == (1, 1)
    assert [(each["item"], each["code"]) for each in found["rejected"]] == [
        (2, "conflict"),
        (3, "label"),
        (4, "label"),
        (5, "label"),
    ]
    score = inputs.get("/models/forecast/drift").json()["accuracy"]
    assert (score["metric"], score["n"]) == ("mae", 1)
    assert math.isclose(score["score"], 0.5, abs_tol=1e-5)


@pytest.mark.parametrize(
    ("actual", "code"),
    [(b'[1,"x",2]', "type"), (b"[1,true,2]", "type"), (b"[1,NaN,2]", "non_finite"), (b"[1,1e999,2]", "non_finite")],
)
def test_feedback_with_a_list_that_does_not_fit_is_told(inputs: InProcess, actual: bytes, code: str) -> None:
    body = b'{"items":[{"id":"x","actual":' + actual + b"}]}"
    assert [fault[:3] for fault in faults(inputs.post("/feedback", content=body))] == [(0, "actual", code)]


def test_feedback_on_classes_takes_no_list(inputs: InProcess) -> None:
    (found,) = predictions(post(inputs, "review", [{"text": "good"}]))
    given = inputs.post("/feedback", json={"items": [{"id": found["id"], "actual": [1.0]}]}).json()
    assert [each["code"] for each in given["rejected"]] == ["label"]


def test_a_client_that_leaves_disturbs_nobody(inputs: InProcess) -> None:
    rows = inputs.app.repository.find("signal").decoder.rows(b'{"rows":[{"signal":[[1,2]]}]}')

    async def main() -> None:
        batcher = inputs.app.repository.find("signal").batcher
        first, second, third = (batcher.predict(rows, with_ids=False) for _ in range(3))
        second.cancel()
        assert (await first) == (await third)
        await asyncio.gather(*(batcher.predict(rows, with_ids=False) for _ in range(20)))

    inputs.loop.run_until_complete(main())
