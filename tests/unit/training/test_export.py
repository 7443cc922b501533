"""The graph keeps its contract, a graph that answers otherwise is refused, and a bundle appears whole or not at all."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from tests.trained import Small, small

from dle_bundle import bundle as bundles
from dle_bundle.errors import BundleError, InputError, WorkError
from dle_bundle.groups import Groups
from dle_bundle.schema import Outputs, Schema
from dle_training.export import graph, parity, probes
from dle_training.export.bundle import export_run
from dle_training.runs import reference

TARGETS = ("buys", "level", "spent")


def tried(chosen: Small) -> Groups:
    """The rows that an export of this model is tried on."""
    return probes.make(chosen.training, chosen.model.schema, np.random.default_rng(0))


@pytest.mark.parametrize("target", TARGETS)
def test_the_graph_keeps_its_contract(target: str) -> None:
    proto = small(target).graph
    assert {(domain.domain, domain.version) for domain in proto.opset_import} == {("", 20), ("ai.onnx.ml", 4)}
    assert {node.domain for node in proto.graph.node} <= {"", "ai.onnx.ml"}
    assert not proto.functions
    inputs = {value.name: value.type.tensor_type for value in proto.graph.input}
    assert list(inputs) == ["numeric", "categorical", "datetime"]
    assert [inputs[name].elem_type for name in inputs] == [
        onnx.TensorProto.DOUBLE, onnx.TensorProto.STRING, onnx.TensorProto.INT64
    ]  # fmt: skip
    outputs = [value.name for value in proto.graph.output]
    assert outputs == (["value"] if target == "spent" else ["label", "probabilities"])
    for value in (*proto.graph.input, *proto.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "rows"


def test_the_graph_says_nothing_of_where_it_was_made() -> None:
    content = small("buys").graph.SerializeToString()
    assert b"site-packages" not in content
    assert b".py" not in content


@pytest.mark.parametrize("target", TARGETS)
def test_parity_holds(target: str) -> None:
    chosen = small(target)
    proof = parity.check(
        chosen.graph.SerializeToString(), chosen.model.predict, chosen.model.preprocessing.tokenise,
        tried(chosen), chosen.model.schema,
        mean=chosen.model.objective.state().mean,
        scale=chosen.model.objective.state().sd,
    )  # fmt: skip
    assert proof.largest_difference <= proof.bound
    assert proof.rows > 1000


@pytest.mark.parametrize("target", TARGETS)
def test_a_graph_that_answers_otherwise_fails(target: str) -> None:
    chosen = small(target)
    altered = onnx.ModelProto()
    altered.CopyFrom(chosen.graph)
    for initializer in altered.graph.initializer:
        if initializer.name.endswith("head.weight"):
            changed = numpy_helper.to_array(initializer) * np.float32(1.01)
            initializer.CopyFrom(numpy_helper.from_array(changed, initializer.name))
            break
    else:
        pytest.fail("the head's weights are not in the graph under their name")
    with pytest.raises(WorkError, match="does not answer as PyTorch does"):
        parity.check(
            altered.SerializeToString(), chosen.model.predict, chosen.model.preprocessing.tokenise,
            tried(chosen), chosen.model.schema,
            mean=chosen.model.objective.state().mean,
        scale=chosen.model.objective.state().sd,
        )  # fmt: skip


def test_probes_hold_missing_unseen_and_extreme_values() -> None:
    chosen = small("buys")
    rows = tried(chosen)
    known = {value for field in chosen.model.schema.categorical for value in field.categories or ()}
    assert np.isnan(rows.numeric).all(axis=1).any()
    assert (rows.categorical == "").all(axis=1).any()
    assert any(value and value not in known for value in rows.categorical.ravel())
    assert np.nanmax(rows.numeric) == np.finfo(np.float64).max


@pytest.mark.parametrize("classes", [("no", "yes"), (1, 2, 3), (False, True)])
def test_labels_have_the_type_of_the_target(classes: tuple[str | int | bool, ...]) -> None:
    nodes, names = graph._tail("probabilities", classes)
    expected = {str: onnx.TensorProto.STRING, int: onnx.TensorProto.INT64, bool: onnx.TensorProto.BOOL}
    assert names.data_type == expected[type(classes[0])]
    assert [node.op_type for node in nodes] == ["ArgMax", "Gather"]


def test_truth_values_are_spelt_as_in_json() -> None:
    schema = Schema(inputs=(), outputs=Outputs(target="y", task="binary", classes=(False, True)))
    answers = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]], dtype=np.float32)
    assert reference._class_bins(answers, schema.outputs.class_names).names == ("false", "true")


def test_a_bundle_is_exported_verified_and_loaded(tmp_path: Path) -> None:
    exported = export_run(small("buys").run, tmp_path / "people", version=3)
    loaded = bundles.load(tmp_path / "people")
    assert (loaded.manifest.name, loaded.manifest.version) == ("people", 3)
    assert loaded.manifest.files.keys() == set(bundles.FILES)
    assert loaded.schema == small("buys").model.schema
    assert loaded.reference.features.keys() == {field.name for field in loaded.schema.inputs}
    assert loaded.reference.metrics.keys() == {"validation", "test"}
    assert loaded.reference.calibration["temperature"] > 0
    assert loaded.manifest.outputs == {"label": "label", "probabilities": "probabilities"}
    assert json.loads((tmp_path / "people" / "parity.json").read_text())["rows"] == exported.parity.rows
    assert "# people" in (tmp_path / "people" / "README.md").read_text()
    (tmp_path / "people" / "model.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match="was altered after its export"):
        bundles.load(tmp_path / "people")


def test_a_name_that_cannot_stand_in_a_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a model name of letters, digits"):
        export_run(small("buys").run, tmp_path / "my model")


def test_a_failed_export_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object, **__: object) -> parity.Parity:
        raise WorkError("differs")

    monkeypatch.setattr(parity, "check", wrong)
    with pytest.raises(WorkError):
        export_run(small("buys").run, tmp_path / "people")
    assert list(tmp_path.iterdir()) == []


def test_the_temperature_is_in_the_graph() -> None:
    chosen = small("buys")
    temperature = chosen.model.objective.state().temperature
    assert temperature != 1.0
    rows = chosen.training.take(slice(0, 5))
    with torch.inference_mode():
        prepared = chosen.model.preprocessing(chosen.model.tensors(rows))
        logits = chosen.model.network(prepared).numpy()[:, 0]
    found = chosen.session().run(["probabilities"], rows.feeds())[0][:, 1]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits / temperature)), atol=1e-6)
