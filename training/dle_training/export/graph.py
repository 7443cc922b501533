"""Builds the ONNX graph of a bundle, which turns raw groups into answers with standard operators only.

PyTorch has no strings, so the graph has three parts. The front turns categories into codes: one LabelEncoder over the
union of all vocabularies and one gather from a table, which take about a microsecond per row. The core is the exported
PyTorch module. The tail names the most probable class. Only the front and the tail have string operators, because the
CUDA provider has no kernels for them.
"""

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import onnx
import torch
from onnx import TensorProto, compose, helper, numpy_helper
from torch import Tensor, nn

from dle_bundle.groups import GROUPS
from dle_bundle.schema import Label, Schema
from dle_training.models._base import OPSET, Network
from dle_training.preprocessing.categories import FIRST, MISSING, UNSEEN
from dle_training.preprocessing.shape import InputShape

ML_OPSET = 4
IR_VERSION = 10
_CORE = "core/"
_CODES = "codes"
_LENGTHS = {"sequence": "steps", "tokens": "tokens"}
"""Groups with a dynamic second dimension, and the name of that dimension."""


def build(core: nn.Module, schema: Schema, example: dict[str, Tensor]) -> onnx.ModelProto:
    """Return the whole graph.

    `core` takes the groups that have columns, by position in the order of `GROUPS`, with codes (N, C) int64 in place of
    categories. It returns probabilities (N, K) float32, or values (N,) or (N, horizon) float64. `example` holds its
    arguments by name. The example needs at least two rows, and at least two steps or tokens, because the exporter
    freezes a size of one.
    """
    classes, horizon = schema.outputs.classes, schema.outputs.horizon
    answer = "value" if classes is None else "probabilities"
    exported = compose.add_prefix(
        _export(core, example, answer), _CORE, rename_inputs=False, rename_outputs=False, inplace=True
    ).graph
    nodes, initializers = list(exported.node), list(exported.initializer)
    inputs = [value for value in exported.input if value.name != _CODES]
    width = (len(classes),) if classes is not None else (horizon,) if horizon > 1 else ()
    outputs = [_tensor(answer, TensorProto.DOUBLE if classes is None else TensorProto.FLOAT, *width)]
    if schema.categorical:
        front, tables = _front([field.categories or () for field in schema.categorical])
        nodes, initializers = [*front, *nodes], [*tables, *initializers]
        inputs.append(_tensor("categorical", TensorProto.STRING, len(schema.categorical)))
    if classes is not None:
        tail, names = _tail(answer, classes)
        nodes, initializers = [*nodes, *tail], [*initializers, names]
        outputs.insert(0, _tensor("label", names.data_type))
    graph = helper.make_graph(
        nodes, "model", sorted(inputs, key=lambda value: GROUPS.index(value.name)), outputs, initializers
    )
    domains = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=IR_VERSION, producer_name="dle")
    onnx.checker.check_model(model, full_check=True)
    return model


def _export(core: nn.Module, example: dict[str, Tensor], answer: str) -> onnx.ModelProto:
    """Export the PyTorch part for any batch size, at opset `OPSET`, without metadata about its origin."""
    core.eval()
    rows = torch.export.Dim("rows", min=1, max=1 << 30)
    free = {name: {0: rows} for name in example}
    for name in example.keys() & _LENGTHS:
        free[name][1] = torch.export.Dim(_LENGTHS[name], min=1, max=1 << 20)
    with warnings.catch_warnings(), _silence():
        warnings.simplefilter("ignore")  # the exporter warns about deprecated parts of itself
        program = torch.onnx.export(
            core,
            tuple(example.values()),
            dynamo=True,
            external_data=False,
            opset_version=OPSET,
            input_names=list(example),
            output_names=[answer],
            dynamic_shapes=(tuple(free.values()),),  # `forward` has the single argument *arrays
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    found = {domain.domain: domain.version for domain in model.opset_import}
    assert found.get("") == OPSET, found
    assert not model.functions
    for part in (model.graph, *model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    for value in (*model.graph.input, *model.graph.output):
        sizes = value.type.tensor_type.shape.dim
        names = {0: "rows"} | ({1: _LENGTHS[value.name]} if value.name in _LENGTHS else {})
        for place, name in names.items():
            assert sizes[place].dim_param, f"{value.name}: the exporter froze {name} at {sizes[place].dim_value}"
            sizes[place].dim_param = name
    return model


def try_images(network: Network, shape: InputShape) -> None:
    """Export a network that reads only images, for two empty images. Raises the errors of the exporter."""
    assert shape.image is not None
    image = shape.image
    empty = torch.zeros((2, image.columns * image.channels, image.height, image.width), dtype=torch.uint8)
    _export(_OfImages(network), {"image": empty}, "features")


class _OfImages(nn.Module):
    """Calls a network with images by position, because the exporter passes inputs by position."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, *arrays: Tensor) -> Tensor:
        output: Tensor = self.network({"image": arrays[0]})
        return output


@contextmanager
def _silence() -> Iterator[None]:
    """Silence the exporter's warnings about missing packages that it does not need."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _front(vocabularies: list[tuple[str, ...]]) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Return the nodes that turn `categorical` (N, C) into codes (N, C), and their tables."""
    union = sorted({"", *(value for vocabulary in vocabularies for value in vocabulary)})
    place = {value: index + 1 for index, value in enumerate(union)}
    width = len(union) + 1
    table = np.full((len(vocabularies), width), UNSEEN, dtype=np.int64)
    table[:, place[""]] = MISSING
    for column, vocabulary in enumerate(vocabularies):
        table[column, [place[value] for value in vocabulary]] = np.arange(len(vocabulary)) + FIRST
    encoder = helper.make_node(
        "LabelEncoder",
        ["categorical"],
        ["front/place"],
        domain="ai.onnx.ml",
        keys_strings=union,
        values_int64s=[place[value] for value in union],
        default_int64=0,
    )
    nodes = [
        encoder,
        helper.make_node("Add", ["front/place", "front/offsets"], ["front/entry"]),
        helper.make_node("Gather", ["front/table", "front/entry"], [_CODES], axis=0),
    ]
    offsets = (np.arange(len(vocabularies), dtype=np.int64) * width).reshape(1, -1)
    tables = [
        numpy_helper.from_array(table.reshape(-1), "front/table"),
        numpy_helper.from_array(offsets, "front/offsets"),
    ]
    return nodes, tables


def _tail(probabilities: str, classes: Iterable[Label]) -> tuple[list[onnx.NodeProto], onnx.TensorProto]:
    """Return the nodes that turn probabilities (N, K) into the label (N,), and the tensor of classes."""
    labels = np.array(list(classes))
    # text becomes bytes, whole numbers int64 and truth values bool, so labels have the JSON type of the target
    names = numpy_helper.from_array(labels.astype(object) if labels.dtype.kind == "U" else labels, "tail/classes")
    nodes = [
        helper.make_node("ArgMax", [probabilities], ["tail/winner"], axis=1, keepdims=0),
        helper.make_node("Gather", ["tail/classes", "tail/winner"], ["label"], axis=0),
    ]
    return nodes, names


def _tensor(name: str, element: int, *width: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, ["rows", *width])
