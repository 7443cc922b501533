"""The figures of classification: confusion matrix, ROC, precision and recall, calibration.

Each function takes plain values and returns PNG bytes. `names` are the classes as text, in the order of the
probabilities (N, K); `actual` are class indices (N,). A curve over thresholds exists for a class that some rows have
and others do not. If no class has a curve, `roc` and `precision_recall` return None.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import seaborn as sns
from matplotlib.axes import Axes

from dle_training.report.canvas import (
    BLUE,
    COLOURS,
    FULL,
    GRID,
    GUIDE,
    HALF,
    INK,
    SHADES,
    legend,
    png,
    rows_axis,
    sheet,
    short,
)

ROOMY, LEGIBLE = 8, 30
"""Cells of the confusion matrix show count and share for up to ROOMY classes, and the count for up to LEGIBLE."""
NAMED = 10
"""Largest number of curves with a colour and a name. With more classes, the worst ones get them."""
BINS = 15
_Floats = npt.NDArray[np.floating]
_Indices = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True, eq=False)
class _Curve:
    name: str
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    area: float


def is_wide(classes: int) -> bool:
    """Whether a confusion matrix of this many classes needs a row of its own."""
    return classes > ROOMY


def confusion_matrix(names: Sequence[str], counts: npt.NDArray[np.int64]) -> bytes:
    """Draw counts (K, K), rows = actual. The shade is the share within the row."""
    classes = len(names)
    rows = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(rows, 1)
    size = HALF if not is_wide(classes) else (FULL, min(0.27 * classes, 0.27 * LEGIBLE) + 1.9)
    with sheet(size) as figure:
        axes = figure.subplots()
        labelled = range(0, classes, -(-classes // 40))
        labels = [short(names[index]) for index in labelled]
        sns.heatmap(
            shares, vmin=0, vmax=1, cmap=SHADES, ax=axes, xticklabels=False, yticklabels=False,
            annot=_cells(counts, shares) if classes <= LEGIBLE else False, fmt="",
            annot_kws={"fontsize": 10 if classes <= 3 else 8 if classes <= 5 else 7},
            linewidths=1 if classes <= LEGIBLE else 0, linecolor="white",
            cbar_kws={"label": "share of the actual class", "shrink": 0.85, "pad": 0.02, "format": "{x:.0%}"},
        )  # fmt: skip
        axes.set_title("Confusion matrix")
        axes.set_xlabel("predicted")
        axes.set_ylabel("actual")
        slanted = sum(map(len, labels)) > (30 if not is_wide(classes) else 100)
        turned: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
        axes.set_xticks([index + 0.5 for index in labelled], labels, **turned)
        axes.set_yticks([index + 0.5 for index in labelled], labels)
        axes.tick_params(length=0)
        return png(figure)


def roc(names: Sequence[str], positive: int, actual: _Indices, probabilities: _Floats) -> bytes | None:
    """Draw the ROC curve of the `positive` class, or with more than two classes the one-vs-rest ones and their mean."""
    from sklearn.metrics import auc, roc_curve

    curves = []
    for index in _drawable(names, positive, actual):
        x, y, _ = roc_curve(actual == index, probabilities[:, index])
        curves.append(_Curve(names[index], x, y, float(auc(x, y))))
    if not curves:
        return None
    with sheet() as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], **GUIDE)
        average = None
        if len(names) > 2:
            grid = np.unique(np.concatenate([[0.0], *(curve.x for curve in curves)]))
            grid = grid[:: max(1, len(grid) // 2_000)]
            mean = np.mean([np.interp(grid, curve.x, curve.y) for curve in curves], axis=0)
            average = _Curve(
                "average", np.r_[0, grid, 1], np.r_[0, mean, 1], float(np.mean([curve.area for curve in curves]))
            )
        _draw(axes, curves, average, "AUC", "lower right")
        axes.set_title("ROC")
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")
        return png(figure)


def precision_recall(names: Sequence[str], positive: int, actual: _Indices, probabilities: _Floats) -> bytes | None:
    """Draw precision against recall for the classes that `roc` draws. It says more than ROC about rare classes."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    curves = []
    for index in _drawable(names, positive, actual):
        is_class, scores = actual == index, probabilities[:, index]
        precision, recall, _ = precision_recall_curve(is_class, scores, drop_intermediate=True)
        curves.append(_Curve(names[index], recall, precision, float(average_precision_score(is_class, scores))))
    if not curves:
        return None
    with sheet() as figure:
        axes = figure.subplots()
        if len(names) == 2:
            axes.axhline((actual == positive).mean(), **GUIDE)
        _draw(axes, curves, None, "AP", "lower left")
        axes.set_title("Precision and recall")
        axes.set_xlabel("recall")
        axes.set_ylabel("precision")
        return png(figure)


def calibration(names: Sequence[str], positive: int, actual: _Indices, probabilities: _Floats) -> bytes:
    """Draw observed frequency against predicted probability in 15 bins, with Wilson's 95% intervals and the row counts.

    With two classes the probability is that of the `positive` class, otherwise that of the predicted label.
    """
    if len(names) == 2:
        said, happened, of = probabilities[:, positive], actual == positive, short(names[positive])
    else:
        said, happened, of = probabilities.max(axis=1), actual == probabilities.argmax(axis=1), "the predicted label"
    bins = np.minimum((said * BINS).astype(np.int64), BINS - 1)
    rows = np.bincount(bins, minlength=BINS)
    filled = rows > 0
    centre = np.bincount(bins, weights=said, minlength=BINS)[filled] / rows[filled]
    share = np.bincount(bins, weights=happened, minlength=BINS)[filled] / rows[filled]
    low, high = _wilson(share, rows[filled])
    with sheet() as figure:
        top, bottom = figure.subplots(2, sharex=True, height_ratios=[4, 1])
        top.plot([0, 1], [0, 1], **GUIDE)
        top.vlines(centre, low, high, color=BLUE, linewidth=1.2, alpha=0.5)
        top.plot(centre, share, color=BLUE, marker="o", markersize=4.5, linewidth=1.2)
        top.set(xlim=(0, 1), ylim=(-0.02, 1.02))
        top.set_title("Calibration")
        top.set_ylabel("observed frequency" if len(names) == 2 else "accuracy")
        bottom.bar((np.arange(BINS) + 0.5) / BINS, rows, width=0.92 / BINS, color=BLUE, alpha=0.6, linewidth=0)
        bottom.grid(visible=False, axis="x")
        rows_axis(bottom.yaxis, 2)
        bottom.set_ylabel("rows")
        bottom.set_xlabel(f"predicted probability of {of}")
        figure.align_ylabels()
        return png(figure)


def _drawable(names: Sequence[str], positive: int, actual: _Indices) -> list[int]:
    counts = np.bincount(actual, minlength=len(names))
    candidates = [positive] if len(names) == 2 else range(len(names))
    return [index for index in candidates if 0 < counts[index] < len(actual)]


def _draw(
    axes: Axes,
    curves: Sequence[_Curve],
    average: _Curve | None,
    area: str,
    location: Literal["lower left", "lower right"],
) -> None:
    """Draw curves over the unit square: at most NAMED in colour, the others as a grey background."""
    ranked = sorted(curves, key=lambda curve: curve.area)
    named = [curve for curve in curves if curve in ranked[:NAMED]]
    for curve in ranked[NAMED:]:
        axes.plot(curve.x, curve.y, color=GRID, linewidth=1, zorder=1.6)
    lines = {}
    for index, curve in enumerate(named):
        dashes = "-" if index < len(COLOURS) // 2 else (0, (3, 1))
        (line,) = axes.plot(curve.x, curve.y, color=COLOURS[index], linestyle=dashes, linewidth=1.5 if average else 2)
        lines[f"{short(curve.name)}  {area} {curve.area:.3f}"] = line
    if average:
        (line,) = axes.plot(average.x, average.y, color=INK, linewidth=2.4)
        lines[f"average  {area} {average.area:.3f}"] = line
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    legend(axes, lines, location)


def _cells(counts: npt.NDArray[np.int64], shares: npt.NDArray[np.float64]) -> npt.NDArray[np.str_]:
    if not is_wide(len(counts)):
        some = np.broadcast_to(counts.any(axis=1, keepdims=True), counts.shape)  # a share of no rows is none
        cells = zip(counts.flat, shares.flat, some.flat, strict=True)
        texts = [f"{count:,}\n{share:.0%}" if any_rows else "0" for count, share, any_rows in cells]
    else:
        texts = ["" if count == 0 else _compact(count) for count in counts.flatten().tolist()]
    return np.array(texts).reshape(counts.shape)


def _compact(count: int) -> str:
    return f"{count / 1000:.0f}k" if count >= 10_000 else str(count)


def _wilson(share: _Floats, rows: _Indices) -> tuple[_Floats, _Floats]:
    """Return the 95% interval of a proportion. Unlike the normal interval, it stays in [0, 1], even for few rows."""
    z = 1.96
    scale = 1 + z**2 / rows
    middle = (share + z**2 / (2 * rows)) / scale
    half = z * np.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2)) / scale
    return middle - half, middle + half
