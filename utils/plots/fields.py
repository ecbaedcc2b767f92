"""What a number deep in a network sees, over the image that it looks at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from utils.plots.style import COLOURS, WIDTH, LessonFigure, style, to_array

MOST = 6  # side by side


@style()
def receptive_fields(image: Any, fields: Mapping[str, Any], *, title: str = "What one number sees") -> LessonFigure:
    """An image once for each field, with an orange veil where the number depends on it, and a frame round all of that.

    image: (H, W) or (1, H, W). fields: by name, up to six, each (H, W) with values of at least 0: a mask, or how much
    each pixel counts. Under each stands the side of the frame, and of the square in its middle that holds half of
    the weight.
    """
    picture = to_array(image).squeeze()
    if picture.ndim != 2:
        raise ValueError(f"image must have the shape (H, W) or (1, H, W), got {to_array(image).shape}")
    if not isinstance(fields, Mapping) or not 1 <= len(fields) <= MOST:
        raise ValueError(f"fields must be a dict of 1 to {MOST} names and fields, got {len(fields)}")
    weights = {name: _checked(name, field, picture.shape) for name, field in fields.items()}
    figure = LessonFigure(height=WIDTH / max(3, len(weights)) + 1.1)
    cells = figure.subplots(1, max(3, len(weights)), squeeze=False)[0]
    words = {}
    for cell in cells:
        cell.set_axis_off()
    for cell, (name, field) in zip(cells, weights.items(), strict=False):
        (top, left), (height, width) = _frame(field)
        veil = np.zeros((*field.shape, 4))
        veil[..., :3] = to_rgb(COLOURS["yours"])
        veil[..., 3] = 0.85 * np.sqrt(field / field.max())
        cell.imshow(picture, cmap="gray", interpolation="nearest")
        cell.imshow(veil, interpolation="nearest")
        cell.add_patch(
            Rectangle((left - 0.5, top - 0.5), width, height, fill=False, color=COLOURS["pooling"], linewidth=2)
        )
        words[name] = f"sees {height}×{width} pixels"
        if np.ptp(field[field > 0]) > 0:
            words[name] += f",\nhalf of it in {_half(field)}×{_half(field)}"
        cell.set_title(name, loc="center", size=13, pad=8)
        cell.annotate(words[name], (0.5, 0), (0, -6), xycoords="axes fraction", textcoords="offset points", ha="center",
                      va="top")  # fmt: skip
    figure.suptitle(title, x=0.01, ha="left", weight="bold", size=15)
    figure.title = title
    figure.alt = f"{title}: " + "; ".join(f"{name} {said}" for name, said in words.items()).replace("\n", " ")
    return figure


def _checked(name: str, field: Any, shape: tuple[int, ...]) -> np.ndarray:
    values = to_array(field, is_finite=False).astype(float)
    if values.shape != shape:
        raise ValueError(f"{name}: its field must have the image's shape {shape}, got {values.shape}")
    if not np.isfinite(values).all() or values.min() < 0 or values.max() == 0:
        raise ValueError(f"{name}: its field must hold numbers of at least 0, and one above 0: it sees nothing")
    return values


def _frame(field: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
    """(top, left) and (height, width) of all that is not 0."""
    rows, columns = (np.flatnonzero((field > 0).any(axis=axis)) for axis in (1, 0))
    return (int(rows[0]), int(columns[0])), (int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1)


def _half(field: np.ndarray) -> int:
    """The side of the smallest square round the middle of the frame that holds half of the weight."""
    (top, left), (height, width) = _frame(field)
    row, column = top + height // 2, left + width // 2
    for reach in range(max(field.shape)):
        inside = field[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
        if inside.sum() >= field.sum() / 2:
            break
    return 2 * reach + 1
