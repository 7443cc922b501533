"""The story of an export: model, graph, proof, reference, card, digests; then the folder appears, or nothing does."""

import importlib.metadata
import platform
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from dle_bundle import bundle as bundles
from dle_bundle import documents, integrity
from dle_bundle.drift.features import Feature, monitored_features
from dle_bundle.errors import InputError
from dle_bundle.files import atomic_folder
from dle_bundle.groups import Groups
from dle_bundle.images.pixels import ImageFiles
from dle_bundle.manifest import FORMAT, Manifest
from dle_bundle.schema import Schema
from dle_training.export import card, graph, parity
from dle_training.export.parity import Parity
from dle_training.runs import reference
from dle_training.runs.evaluate import judge
from dle_training.runs.folder import RunFolder, Scores, read_metrics
from dle_training.runs.prepare import reopen
from dle_training.runs.train import open_model
from dle_training.runs.trained_model import TrainedModel

_SAMPLED = 10_000
_TOOLS = ("deep-learning-essentials", "torch", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export came to."""

    manifest: Manifest
    schema: Schema
    parity: Parity
    test: Scores
    graph_bytes: int
    opset: int


def export_run(run: RunFolder, target: Path, version: int = 1) -> Exported:
    """Write the bundle of `run` into the new folder `target`, whose name becomes the model's.

    Raises InputError: no finished run, its data changed, `target` exists or has no usable name. WorkError: the graph
    does not answer as PyTorch does.
    """
    if target.exists():
        raise InputError(f"{target} exists already: choose another folder with --to, or remove it first")
    name = _model_name(target)
    model = open_model(run)
    dataset = reopen(run).dataset
    training, _ = dataset.part("train")
    validation, _ = dataset.part("validation")
    example = model.tensors(graph.longest(training))
    proto = graph.build(model.answer(tuple(example)), model.schema, example)
    content = proto.SerializeToString()
    proof = parity.check(
        content, model.predict, model.preprocessing.tokenise, training, model.schema, scale=model.objective.state().sd
    )
    scores = {"validation": read_metrics(run)["validation"], "test": judge(run, model, *dataset.part("test")).test}
    described = reference.build(
        model.schema,
        _watched(model, training),
        len(training),
        model.predict(validation),
        calibration=_calibration(model, scores["validation"]),
        metrics={part: _known(values) for part, values in scores.items()},
    )
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
    files = {
        bundles.SCHEMA: documents.encode(model.schema),
        bundles.MODEL: content,
        bundles.REFERENCE: documents.encode(described),
        bundles.PARITY: documents.encode(proof),
        bundles.CARD: card.write(manifest, model.schema, described, proof, about).encode(),
    }
    if model.preprocessing.tokenizer is not None:
        files[bundles.TOKENIZER] = model.preprocessing.tokenizer.content
    with atomic_folder(target) as folder:
        for file, data in files.items():
            (folder / file).write_bytes(data)
        digests = {file: integrity.digest(folder / file) for file in files}
        manifest = msgspec.structs.replace(manifest, files=digests)
        (folder / bundles.MANIFEST).write_bytes(documents.encode(manifest))
        bundles.load(folder)
    return Exported(manifest, model.schema, proof, scores["test"], len(content), graph.OPSET)


def _watched(model: TrainedModel, training: Groups) -> list[Feature]:
    """What is watched of the training rows; of very many images that are files, a sample evenly spaced."""
    if isinstance(training.image, ImageFiles):
        training = training.take(slice(None, None, -(-len(training) // _SAMPLED)))
    prepared = model.preprocessing.tokenise(training)
    return monitored_features(prepared, model.schema, model.preprocessing.tokenizer)


def _model_name(target: Path) -> str:
    """The folder's name, which stands in paths of the service and in labels of its metrics."""
    name = target.resolve().name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise InputError(f"--to {target}: the model is called {name!r}: expected letters, digits, '.', '_' and '-'")
    return name


def _calibration(model: TrainedModel, validation: Scores) -> dict[str, float]:
    if model.schema.outputs.classes is None:
        return {}
    return {"temperature": model.objective.state().temperature, **_known({"ece": validation.get("ece")})}


def _known(scores: Scores) -> dict[str, float]:
    return {name: score for name, score in scores.items() if score is not None}
