"""Pictures: images, filters, feature maps, and what a network confuses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.patches import Rectangle

from utils.checks import shown, tuple_of, whole
from utils.plots.style import (
    COLOURS,
    WIDTH,
    LessonFigure,
    headline,
    style,
    text_on,
    text_size,
    to_array,
)
from utils.words import counted, listed

LEAST_COLUMNS = 4  # of a grid of images, filled or not: one picture alone is not blown up to the page's width


@style()
def image_grid(
    images: Any, titles: Sequence[str] | None = None, *, columns: int = 8, title: str = "Images"
) -> LessonFigure:
    """Images in rows of `columns`, the first at the top left, each over its title. Long titles make the columns fewer,
    to four; then they are wrapped.

    images: (N, H, W), (N, 1, H, W) or (N, 3, H, W), of any dtype; each is shown from its darkest to its brightest.
    """
    whole("columns", columns, least=1)
    pictures = [_picture(image) for image in _batch(images)]
    if titles is not None and len(titles) != len(pictures):
        raise ValueError(f"titles must be one an image: expected {len(pictures)}, got {len(titles)}")
    titles = None if titles is None else [f"{title}" for title in titles]  # a label that is a number does as well
    columns = min(columns, max(len(pictures), LEAST_COLUMNS))
    lines = 0
    if titles:
        fitting = int(WIDTH / max(map(_width, titles)))
        columns = min(columns, max(fitting, LEAST_COLUMNS))
        written = [_wrapped(title, WIDTH / columns) for title in titles]
        lines = 1 + max(title.count("\n") for title in written)
    rows = math.ceil(len(pictures) / columns)
    side = WIDTH / columns
    figure = LessonFigure(height=rows * (0.85 * side + 0.1 * (lines > 0) + 0.2 * lines) + 0.1)
    for i, cell in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        cell.set_axis_off()
        if i < len(pictures):
            _show(cell, pictures[i])
            if titles is not None:
                cell.text(0.5, -0.06, written[i], transform=cell.transAxes, ha="center", va="top")
    figure.title = title
    words = f": {', '.join(titles)}" if titles is not None else ""
    figure.alt = f"{counted(len(pictures), 'image')}{words}."
    return figure


@style()
def filters(weights: Any, *, columns: int = 8, title: str = "Filters of the first layer") -> LessonFigure:
    """A convolution's kernels as pictures, (out_channels, 1 or 3, k, k): red is positive, blue negative, white zero.

    All share one scale. With 3 input channels a kernel is a colour picture, each stretched to its own range.
    """
    whole("columns", columns, least=1)
    kernels = to_array(weights)
    if kernels.ndim != 4 or not len(kernels) or kernels.shape[1] not in (1, 3):
        raise ValueError(
            f"weights must have the shape (out_channels, 1 or 3, k, k), got {kernels.shape}: only a layer that "
            f"looks at an image can be shown as one; of a deeper layer, show one input channel: weights[:, :1]"
        )
    number, colours, height, width = kernels.shape
    columns = min(columns, number)
    rows = math.ceil(number / columns)
    across = max(columns, math.floor(WIDTH / 1.4))  # room for as many: a few kernels are not blown up
    figure = LessonFigure(height=0.92 * rows * WIDTH / across + 0.6)
    limit = float(abs(kernels).max()) or 1.0
    cells = figure.subplots(rows, across, squeeze=False)
    for cell in cells.flat:
        cell.set_axis_off()
    shown = [cell for row in cells for cell in row[:columns]][:number]
    for cell, kernel in zip(shown, kernels, strict=True):
        if colours == 1:
            picture = cell.imshow(kernel[0], cmap="RdBu_r", vmin=-limit, vmax=limit)
        else:
            _show(cell, _picture(kernel))
        cell.add_patch(_frame(height, width))
    if colours == 1:
        bar = figure.colorbar(picture, ax=cells, location="bottom", shrink=0.4, aspect=30, pad=0.03, anchor=(0, 1))
        bar.set_ticks([-limit, 0, limit], labels=[f"−{limit:.2f}", "0", f"+{limit:.2f}"])
        bar.outline.set_visible(False)
    figure.title = title
    scale = f", weights from {kernels.min():.2f} (blue) to {kernels.max():.2f} (red)" if colours == 1 else ""
    figure.alt = f"{title}: {counted(number, 'kernel')} of {height}×{width}{scale}."
    return figure


@style()
def feature_maps(image: Any, maps: Mapping[str, Any], *, columns: int = 8, title: str = "Feature maps") -> LessonFigure:
    """An image, and below it what each stage makes of it: one row or more a stage, brighter is a larger value.

    image: (H, W), (1, H, W) or (3, H, W). maps: by the stage's name, (C, H, W) each; a stage's maps share one scale,
    black is its smallest value.
    """
    whole("columns", columns, least=1)
    picture = to_array(image)
    if picture.ndim not in (2, 3) or (picture.ndim == 3 and len(picture) not in (1, 3)):
        raise ValueError(f"image must have the shape (H, W), (1, H, W) or (3, H, W), got {picture.shape}")
    if not isinstance(maps, Mapping):
        raise ValueError(f'maps must be a dict of names and maps, {{"block 1": maps}}, got a {type(maps).__name__}')
    stages = {name: to_array(values) for name, values in maps.items()}
    if not stages:
        raise ValueError("maps must hold the maps of at least one stage, got none")
    for name, values in stages.items():
        if values.ndim != 3 or not len(values):
            raise ValueError(f"{name}: its maps must have the shape (C, H, W), of one image, got {values.shape}")
    counts = {name: math.ceil(len(values) / columns) for name, values in stages.items()}
    heights = [1.6, *(1.05 * rows + 0.35 for rows in counts.values())]
    figure = LessonFigure(height=sum(heights))
    top, *parts = figure.subfigures(1 + len(stages), 1, height_ratios=heights, squeeze=False).flat
    cell = top.subplots(1, 1)
    cell.set_axis_off()
    cell.set_anchor("W")
    _show(cell, _picture(picture))
    for part, (name, values) in zip(parts, stages.items(), strict=True):
        number, height, width = values.shape
        low, high = float(values.min()), float(values.max())
        part.suptitle(f"{name}: {counted(number, 'map')} of {height}×{width}", x=0.005, ha="left", size=12)
        cells = part.subplots(counts[name], columns, squeeze=False).flat
        for i, cell in enumerate(cells):
            cell.set_axis_off()
            if i < number:
                cell.imshow(values[i], cmap="gray", vmin=low, vmax=high if high > low else low + 1)
    figure.title = title
    sizes = [f"{counted(len(v), 'map')} of {v.shape[1]}×{v.shape[2]} in {name}" for name, v in stages.items()]
    figure.alt = f"An image, and below it what the network makes of it: {listed(sizes)}."
    return figure


@style()
def confusion(
    labels: Any, predictions: Any, classes: Sequence[str], images: Any = None, *, title: str = "What it confuses"
) -> LessonFigure:
    """How often (in %) each class was taken for each; with `images`, the three most frequent confusions are shown.

    labels, predictions: (N,) class numbers. classes: their names. images: (N, H, W) or (N, C, H, W).
    """
    truth, guess = _numbers("labels", labels), _numbers("predictions", predictions)
    classes = tuple_of("classes", classes)
    counts = count_confusions(truth, guess, len(classes))
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    worst = most_confused(counts, 3)

    pictures = None if images is None else _batch(images)
    if pictures is not None and len(pictures) != len(truth):
        raise ValueError(f"images must be one a label: expected {len(truth)}, got {len(pictures)}")
    has_gallery = pictures is not None and worst
    figure = LessonFigure(9.3 if has_gallery else 6.6, 6.2)
    part = figure
    if has_gallery:
        part, gallery = figure.subfigures(1, 2, width_ratios=[6.6, 2.7])
        _gallery(gallery, worst, truth, guess, classes, pictures)
    axes = part.add_subplot()
    right = np.eye(len(classes), dtype=bool)
    misses = axes.imshow(np.where(right, np.nan, shares), cmap="Oranges", vmin=0, vmax=35)
    hits = axes.imshow(np.where(right, shares, np.nan), cmap="Blues", vmin=30, vmax=130)
    for (row, column), share in np.ndenumerate(shares):
        if counts[row, column]:
            words = f"{share:.0f}" if share >= 0.5 else "·"
            colour = text_on((hits if row == column else misses).to_rgba(share)[:3])
            axes.text(column, row, words, ha="center", va="center", color=colour)
    axes.set_xticks(range(len(classes)), classes, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("the network says")
    axes.set_ylabel("it is")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    headline(axes, title, "of every 100 images of a row’s class,\nhow many it takes for what")

    figure.title = title
    sentences = [f"{classes[i]} is taken for {classes[j]} in {shares[i, j]:.0f} of 100." for i, j in worst]
    figure.alt = " ".join([f"{np.trace(counts) / counts.sum():.1%} are right.", *sentences])
    return figure


def _numbers(name: str, values: Any) -> np.ndarray:
    """Class numbers as whole ones. ValueError for others, such as scores."""
    array = to_array(values, is_finite=False)
    if not np.isfinite(array).all() or (array != array.astype(int)).any():
        raise ValueError(f"{name} must be class numbers, 0, 1, 2 …, got {shown(values)}: take scores.argmax(dim=1)")
    return array.astype(int)


def count_confusions(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """(num_classes, num_classes): how many images of class i were taken for class j."""
    if labels.shape != predictions.shape or labels.ndim != 1:
        raise ValueError(f"labels and predictions must be (N,) both, got {labels.shape} and {predictions.shape}")
    if not len(labels):
        raise ValueError("labels must hold at least one image, got none")
    for name, values in (("labels", labels), ("predictions", predictions)):
        if values.min() < 0 or values.max() >= num_classes:
            raise ValueError(
                f"{name} must be class numbers from 0 to {num_classes - 1}, got {values.min()} to {values.max()}"
            )
    return np.bincount(labels * num_classes + predictions, minlength=num_classes**2).reshape(num_classes, num_classes)


def most_confused(counts: np.ndarray, number: int) -> list[tuple[int, int]]:
    """The `number` most frequent (class, taken for), the most frequent first; fewer if there are no more."""
    wrong = counts * (1 - np.eye(len(counts), dtype=int))
    order = np.argsort(-wrong, axis=None, kind="stable")[:number]
    return [(i, j) for i, j in (divmod(int(place), len(counts)) for place in order) if wrong[i, j]]


def _gallery(
    part: SubFigure,
    pairs: Sequence[tuple[int, int]],
    truth: np.ndarray,
    guess: np.ndarray,
    classes: Sequence[str],
    pictures: np.ndarray,
) -> None:
    """Pictures of the confusions, up to six of each."""
    for strip, (i, j) in zip(part.subfigures(len(pairs), 1, squeeze=False).flat, pairs, strict=True):
        examples = np.flatnonzero((truth == i) & (guess == j))
        times = counted(len(examples), "time")
        strip.suptitle(f"{classes[i]}, taken for\n{classes[j]}: {times}", x=0.02, ha="left", size=12)
        for cell, example in zip(strip.subplots(2, 3).flat, [*examples[:6], *[None] * 6], strict=False):
            cell.set_axis_off()
            if example is not None:
                _show(cell, _picture(pictures[example]))


def _width(title: str) -> float:
    """Inches that a title takes as it is written under a picture, with a gap to the next."""
    return text_size(LessonFigure().text(0, 0, title))[0] + 0.12


def _wrapped(title: str, room: float) -> str:
    """The title in lines that take no more than `room` inches each."""
    lines, length = title, len(title)
    while length > 1 and _width(lines) > room:
        length -= 1
        lines = "\n".join(wrap(title, length))
    return lines


def _batch(images: Any) -> np.ndarray:
    array = to_array(images)
    if not len(array):
        raise ValueError("images must hold at least one to draw, got none")
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[1] not in (1, 3)):
        raise ValueError(f"images must have the shape (N, H, W), (N, 1, H, W) or (N, 3, H, W), got {array.shape}")
    return array


def _picture(image: np.ndarray) -> np.ndarray:
    """(H, W), (1, H, W) or (3, H, W) as matplotlib wants it, stretched to 0 … 1."""
    if image.ndim == 3:
        image = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    low, high = float(image.min()), float(image.max())
    return (image - low) / (high - low or 1.0)


def _show(cell: Axes, picture: np.ndarray) -> None:
    cell.imshow(picture, cmap="gray", vmin=0, vmax=1)


def _frame(height: int, width: int) -> Rectangle:
    return Rectangle((-0.5, -0.5), width, height, fill=False, edgecolor=COLOURS["grid"], linewidth=1.2)
