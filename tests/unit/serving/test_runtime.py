from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests import bundles, graphs

from dle_bundle import bundle, manifest
from dle_bundle.drift import reference
from dle_bundle.errors import BundleError, InputError
from dle_bundle.rows.decoder import RowDecoder
from dle_bundle.schema import Schema
from dle_serving.models.runtime import Model, RunTime, example_groups

SCHEMAS = {"income": bundles.INCOME, "digit": bundles.DIGIT, "price": bundles.PRICE, "spam": bundles.SPAM}
INPUTS = {
    "picture": bundles.PICTURE,
    "signal": bundles.SIGNAL,
    "review": bundles.REVIEW,
    "forecast": bundles.FORECAST,
    "promotion": bundles.PROMOTION,
}


def model(tmp_path: Path, schema: Schema) -> Model:
    return Model(bundle.load(bundles.write(tmp_path / "bundle", schema)), "cpu", 1)


@pytest.mark.parametrize("name", SCHEMAS)
def test_answers_are_those_of_the_graph(tmp_path: Path, name: str) -> None:
    schema = SCHEMAS[name]
    runtime = model(tmp_path, schema)
    generator = np.random.default_rng(0)
    groups = example_groups(schema, 50)
    groups.numeric[:] = generator.normal(0, 30, groups.numeric.shape)
    answers = runtime.run(groups)
    expected = graphs.score(groups)
    if schema.outputs.classes is None:
        assert answers.values is not None
        np.testing.assert_allclose(answers.values, expected, rtol=1e-5, atol=1e-5)
        return
    logits = expected[:, None] * np.arange(len(schema.outputs.classes))
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    assert answers.probabilities is not None
    assert answers.classes is not None
    np.testing.assert_allclose(answers.probabilities, shares, atol=1e-5)
    np.testing.assert_array_equal(answers.classes, answers.probabilities.argmax(axis=1))
    assert len(set(answers.classes.tolist())) > 1


@pytest.mark.parametrize("name", SCHEMAS)
def test_no_rows_have_no_answers(tmp_path: Path, name: str) -> None:
    answers = model(tmp_path, SCHEMAS[name]).run(example_groups(SCHEMAS[name], 0))
    if SCHEMAS[name].outputs.classes is None:
        assert answers.values is not None
        assert answers.values.shape == (0,)
    else:
        assert answers.probabilities is not None
        assert answers.probabilities.shape == (0, len(SCHEMAS[name].outputs.classes or ()))


def test_decoded_rows_run(tmp_path: Path) -> None:
    runtime = model(tmp_path, bundles.INCOME)
    body = msgspec.json.encode({"rows": [bundles.EXAMPLE, {"age": 1, "married": True}]})
    answers = runtime.run(RowDecoder(bundles.INCOME).decode(body))
    assert answers.probabilities is not None
    assert np.isfinite(answers.probabilities).all()
    assert answers.take(slice(0, 1)).probabilities is not None


def test_the_device_in_use_is_told(tmp_path: Path) -> None:
    assert model(tmp_path, bundles.PRICE).provider == "cpu"


def test_a_device_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(InputError, match=r"device cuda: not available .* supports cpu"):
        Model(bundle.load(bundles.write(tmp_path / "bundle")), "cuda")


def test_a_graph_that_does_not_go_with_its_schema_is_refused(tmp_path: Path) -> None:
    folder = bundles.write(tmp_path / "bundle")
    loaded = bundle.load(folder)
    outputs = {"label": "label", "probabilities": "scores"}
    wrong = bundle.Bundle(
        folder, msgspec.structs.replace(loaded.manifest, outputs=outputs), bundles.DIGIT, loaded.reference
    )
    with pytest.raises(BundleError) as caught:
        Model(wrong, "cpu")
    assert [line.split(":")[0] for line in caught.value.details] == [
        "input categorical",
        "input datetime",
        "input numeric",
        "output probabilities",
    ]


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    folder = bundles.write(tmp_path / "bundle")
    described = manifest.load(folder / "manifest.json")
    (folder / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(BundleError, match="was altered after its export"):
        bundle.load(folder)
    wrong = bundle.Bundle(folder, described, bundles.INCOME, reference.load(folder / "reference.json", bundles.INCOME))
    with pytest.raises(BundleError, match="cannot open"):
        Model(wrong, "cpu")


def test_names_of_classes_are_as_json_writes_them() -> None:
    assert bundles.SPAM.outputs.class_names == ("false", "true")
    assert bundles.DIGIT.outputs.class_names == ("0", "1", "2")
    assert bundles.INCOME.outputs.class_names == ("<=50K", ">50K")


@pytest.mark.parametrize("name", INPUTS)
def test_many_rows_are_answered_in_parts_and_in_order(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = INPUTS[name]
    runtime = model(tmp_path, schema)
    time_of_runs = runtime.warm_up(8)
    assert time_of_runs.one > 0
    assert time_of_runs.most_rows == 8
    assert RunTime(0.001, 11, 0.006).seconds(5) == pytest.approx(0.003)
    assert RunTime(0.001, 1, 0.001).seconds(1) == 0.001
    found = bundles.groups(schema, 50, seed=2)
    whole = runtime.run(found)
    monkeypatch.setattr("dle_bundle.groups._MOST_ROWS", 8)
    parts = runtime.run(found)
    expected = graphs.answers(schema, found)
    for answers in (whole, parts):
        given = answers.probabilities if answers.values is None else answers.values
        assert given is not None
        np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", INPUTS)
def test_a_graph_without_the_inputs_of_its_schema_is_refused(tmp_path: Path, name: str) -> None:
    loaded = bundle.load(bundles.write(tmp_path / "bundle", INPUTS[name]))
    other = bundle.load(bundles.write(tmp_path / "other", bundles.PRICE))
    wrong = bundle.Bundle(other.folder, loaded.manifest, loaded.schema, loaded.reference, loaded.tokenizer)
    with pytest.raises(BundleError, match="does not match its schema"):
        Model(wrong, "cpu")
