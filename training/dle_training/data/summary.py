"""What was understood of a data set, in a few lines: target, notes, rows and split."""

from dle_training.data.dataset import Dataset


def lines(dataset: Dataset) -> list[str]:
    """Return a line for the target, one for each note and one for the rows."""
    outputs, layout = dataset.schema.outputs, dataset.schema.layout
    classes = f" with {len(outputs.classes)} classes" if outputs.classes else ""
    sizes = ", ".join(f"{count:,} {part}" for part, count in dataset.split.sizes().items())
    forecast = layout is not None and layout.window is not None
    by = "by time" if forecast else _split_by(dataset.split_by)
    return [
        f"Target: {outputs.target}, {outputs.task}{classes}",
        *(f"Note: {note}" for note in dataset.notes),
        f"Rows: {sizes} (split {by})",
    ]


def _split_by(by: str) -> str:
    """The split rule in words, such as "by the groups of patient"."""
    said = {"column": "by the column", "group": "by the groups of", "time": "by the time of"}
    way, _, name = by.partition(":")
    return f"{said[way]} {name}" if name else way
