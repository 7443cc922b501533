"""Writes a bundle: graph, schema, reference, proof of parity, model card and digests.

The folder is written whole or not at all.
"""

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import onnx

from dle_bundle import bundle as bundles
from dle_bundle import documents, integrity
from dle_bundle.errors import InputError
from dle_bundle.files import atomic_folder
from dle_bundle.groups import Groups
from dle_bundle.manifest import FORMAT, NAME, Manifest
from dle_bundle.schema import Schema
from dle_training.export import card, graph, parity, probes
from dle_training.export.parity import Parity
from dle_training.models._base import OPSET
from dle_training.runs import contents
from dle_training.runs.evaluate import scores_on_test
from dle_training.runs.folder import RunFolder
from dle_training.runs.reference import known
from dle_training.runs.train import open_model
from dle_training.runs.trained_model import TrainedModel
from dle_training.runs.training_sample import LONGEST
from dle_training.scoring.metrics import Scores

_TOOLS = ("deep-learning-essentials", "torch", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of an export."""

    manifest: Manifest
    schema: Schema
    parity: Parity
    test: Scores
    graph_bytes: int
    opset: int


def export_run(run: RunFolder, target: Path, version: int = 1) -> Exported:
    """Write the bundle of `run` into the new folder `target`. The name of the folder becomes the name of the model.

    Raises InputError if the run is not finished, if it has neither test scores nor test rows, or if `target` exists or
    is not usable as a model name. Raises WorkError if the graph does not answer as PyTorch does.
    """
    if target.exists():
        raise InputError(f"{target} exists already: choose another folder, or remove it first")
    name = _model_name(target)
    model = open_model(run)
    test = scores_on_test(run, model)
    schema = _with_scale(model)
    proto, proof = _proven_graph(model, contents.read_training_sample(run)[0])
    reference = contents.read_reference(run)
    reference = msgspec.structs.replace(reference, metrics={**reference.metrics, "test": known(test)})
    manifest = Manifest(
        format=FORMAT,
        name=name,
        version=version,
        task=model.schema.outputs.task,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        tools={"python": platform.python_version(), **{tool: importlib.metadata.version(tool) for tool in _TOOLS}},
        outputs={output.name: output.name for output in proto.graph.output},
        files={},
    )
    config = run.read_config()
    about = {"Model": f"{config.model.name}, {model.parameters:,} parameters", "Seed": str(config.seed)}
    if config.objective.class_weights is not None:
        about["Class weights"] = "used in training only; probabilities follow how often each class occurs"
    content = proto.SerializeToString()
    files = {
        bundles.SCHEMA: documents.encode(schema),
        bundles.MODEL: content,
        bundles.REFERENCE: documents.encode(reference),
        bundles.PARITY: documents.encode(proof),
        bundles.CARD: card.write(manifest, schema, reference, proof, about).encode(),
    }
    if model.preprocessing.tokenizer is not None:
        files[bundles.TOKENIZER] = model.preprocessing.tokenizer.content
    _write(target, files, manifest)
    return Exported(manifest, schema, proof, dict(test), len(content), OPSET)


def _with_scale(model: TrainedModel) -> Schema:
    """Return the schema with mean and standard deviation of a regression's target, by which the service writes ids."""
    if model.schema.outputs.classes is not None:
        return model.schema
    state = model.objective.state()
    outputs = msgspec.structs.replace(model.schema.outputs, mean=state.mean, sd=state.sd)
    return msgspec.structs.replace(model.schema, outputs=outputs)


def _proven_graph(model: TrainedModel, sample: Groups) -> tuple[onnx.ModelProto, Parity]:
    """Return the graph of `model`, and the proof that it answers as PyTorch does. Raises WorkError if it does not."""
    example = model.tensors(sample.take(slice(LONGEST)).trimmed())
    proto = graph.build(model.inference_module(tuple(example)), model.schema, example)
    rows = probes.make(sample, model.schema, np.random.default_rng(0))
    proof = parity.check(
        proto.SerializeToString(),
        model.predict,
        model.preprocessing.tokenise,
        rows,
        model.schema,
        mean=model.objective.state().mean,
        scale=model.scale(rows),
    )
    return proto, proof


def _write(target: Path, files: Mapping[str, bytes], manifest: Manifest) -> None:
    """Create the folder `target` with these files and a manifest of their digests.

    The folder is written whole or not at all.
    """
    with atomic_folder(target) as folder:
        for file, data in files.items():
            (folder / file).write_bytes(data)
        digests = {file: integrity.digest(folder / file) for file in files}
        (folder / bundles.MANIFEST).write_bytes(documents.encode(msgspec.structs.replace(manifest, files=digests)))
        bundles.load(folder)


def _model_name(target: Path) -> str:
    """Return the name of the folder, which the service uses in paths and in labels of metrics.

    Raises InputError if the name is not usable there.
    """
    name = target.resolve().name
    if not NAME.fullmatch(name):
        raise InputError(f"{target}: expected a model name of letters, digits, '.', '_' and '-', found {name!r}")
    return name
