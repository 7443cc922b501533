"""The `README.md` of a bundle: a model card."""

from collections.abc import Iterable, Mapping

from dle_bundle.drift.reference import Reference
from dle_bundle.manifest import Manifest
from dle_bundle.schema import Field, Schema
from dle_training.export.parity import Parity
from dle_training.report.markup import score
from dle_training.report.page import example, observed
from dle_training.settings import proposals

_HIGHLIGHTS = {
    "binary": ("accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "log_loss", "ece"),
    "multiclass": ("accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "log_loss", "ece"),
    "regression": ("rmse", "mae", "r2"),
}
_INTRODUCTION = (
    "A model exported by Deep Learning Essentials: one ONNX graph from raw values to the answer, and everything needed "
    "to serve it."
)
_HONESTY = (
    "The test part was only used to measure: nothing was fitted or chosen on it. The validation part chose the epoch "
    "and, for classes, the temperature of the probabilities."
)


def write(
    manifest: Manifest, schema: Schema, reference: Reference, parity: Parity, description: Mapping[str, str]
) -> str:
    """Return the card as Markdown. `description` holds further rows of the summary, by name."""
    outputs = schema.outputs
    summary = {
        "Task": f"{outputs.task}, predicts `{outputs.target}`",
        "Classes": ", ".join(f"`{name}`" for name in outputs.class_names),
        "Version": str(manifest.version),
        "Created": manifest.created,
        "Training rows": f"{reference.rows:,}",
        **description,
    }
    parts = reference.metrics
    names = [name for name in _HIGHLIGHTS[outputs.task] if any(name in scores for scores in parts.values())]
    return "\n".join(
        (
            f"# {manifest.name}",
            "",
            _INTRODUCTION,
            "",
            *_table(("", ""), ((name, text) for name, text in summary.items() if text)),
            "",
            "## Quality",
            "",
            *_table(
                ("metric", *parts),
                ((name, *(score(scores.get(name)) for scores in parts.values())) for name in names),
            ),
            "",
            _HONESTY,
            "",
            "## Inputs",
            "",
            *_table(("name", "kind", "required", "seen in training", "example"), map(_input, schema.inputs)),
            "",
            "The model also answers rows with values outside the range of training. Treat such answers with care.",
            "",
            "## Proof",
            "",
            _proof(parity),
            "",
            "## Use",
            "",
            "```",
            f"dle-serve {manifest.name} --port 3000",
            proposals.predicting(manifest.name, schema),
            "```",
            "",
        )
    )


def _proof(parity: Parity) -> str:
    return (
        f"On {parity.rows:,} rows (training rows, and copies of them with missing, unseen and extreme values) in "
        f"batches of {', '.join(map(str, parity.batches))}, the graph differs from PyTorch by at most "
        f"{parity.largest_difference:.1e}. The allowed difference is {parity.bound:.0e}."
    )


def _input(field: Field) -> tuple[str, ...]:
    required = "yes" if field.required else "no"
    return (f"`{field.name}`", field.kind, required, observed(field), example(field.example))


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    columns = list(header)
    return [_row(columns), _row(["---"] * len(columns)), *map(_row, rows)]


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
