"""The throughput–accuracy plot: what accuracy costs."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.markers import MarkerStyle
from matplotlib.text import Annotation

from utils.checks import one_of, tuple_of, whole
from utils.plots.axes import HALO, make_logarithmic, place_texts
from utils.plots.labels import boxes_round, samples
from utils.plots.sheet import wrapped
from utils.plots.style import COLOURS, CSS_DPI, WIDTH, LessonFigure, headline, readable, style
from utils.results import Point, pareto_front
from utils.words import counted

# Families differ by marker and by colour; what isn't one of the three is a diamond.
LOOKS = {
    "LeNet": ("s", "#7A8087"),
    "AlexNet": ("^", COLOURS["dense"]),
    "VGG": ("o", COLOURS["convolution"]),
}
OTHER = ("D", COLOURS["ink"])
TIPS = {"D": math.sqrt(2)}  # how much further than a square's sides a marker reaches
YOURS = ("*", COLOURS["yours"])
SMALLEST, LARGEST = 60.0, 420.0  # a marker's area, in square points
MOST = 40  # points that can be told apart
TEXT = 12 * CSS_DPI / 72  # pixels: matplotlib's 12 pt
LEFT = 0.8  # inches that the accuracies and their name take
LINE = 17 / 72  # inches
WIDER_IN_FIGURES = 1.01  # matplotlib draws letters as wide as they are
FEW_LINES = 5  # of notes, for which a figure has room as it is


@style()
def throughput_accuracy(
    points: Sequence[Point],
    *,
    reference: Sequence[Point] = (),
    title: str = "What accuracy costs",
    width: float = WIDTH,
) -> LessonFigure:
    """Accuracy against inference throughput, one labelled point a network; up is better, right is faster.

    points: yours; there may be none where there is a reference. A marker's shape is the family, its area the parameters
    (above a least size); an upright line spans the seeds. The dashed stairs are their Pareto front: what lies under
    them is beaten. reference: drawn behind them in grey. A point so far below all others that they would lie flat under
    the title stands at the lower edge, with its value. The points' order is of no account. width: in inches; the height
    follows from it, and from how many lines the notes take.

    Raises ValueError, with the point's name, for what can't be drawn, for throughputs of yours that were measured under
    different conditions, for accuracies on test images beside some on validation images, and for sample runs beside
    full ones.
    """
    if isinstance(points, pd.DataFrame):
        raise ValueError("points must be a list of Points, got a table: write points(networks)")
    points, reference = tuple_of("points", points, Point), tuple_of("reference", reference, Point)
    _check(points, reference)
    points, reference = sorted(points, key=_order), sorted(reference, key=_order)
    everyone = [*points, *reference]
    front = pareto_front(points)
    room = (width - LEFT) * CSS_DPI
    notes = [
        line for note in _notes(points, front, reference) for line in wrapped(note, TEXT, room, wider=WIDER_IN_FIGURES)
    ]
    height = 5.8 * (width / WIDTH) ** 0.5 + LINE * max(0, len(notes) - FEW_LINES)
    figure = LessonFigure(width, height)
    axes = figure.add_subplot()
    _limit(axes, everyone)
    _draw_reference(axes, reference, everyone)
    axes.plot(
        *_places(axes, front).T, drawstyle="steps-pre",
        color=COLOURS["ink"], linewidth=1.3, dashes=(4, 3), zorder=2, label="Pareto front",
    )  # fmt: skip
    for point in sorted(points, key=lambda p: -p.parameters):  # the small ones on top
        _draw(axes, point, _size(point, everyone))
    where = everyone[0].measured_on or "this device"
    axes.set_xlabel("\n".join(wrapped(f"images/s in inference  ({where})", TEXT, room, wider=WIDER_IN_FIGURES)))
    axes.set_ylabel(f"{everyone[0].evaluated_on} accuracy, %")
    headline(axes, title, "\n".join(notes))
    twice = {own.label for own in points if not own.yours}  # the same network, measured here: it has one name
    named = points + [p for p in reference if p.label not in twice]
    _write_labels(figure, axes, named, points, reference)

    figure.title = title
    figure.alt = _in_words(points or reference, front or pareto_front(reference))
    return figure


# --- what is drawn --------------------------------------------------------------------------------------------------


def _order(point: Point) -> tuple[float, float, str, int]:
    return point.images_per_s, point.accuracy, point.label, point.parameters


def _look(point: Point) -> tuple[str, str]:
    return YOURS if point.yours else LOOKS.get(point.family, OTHER)


def _size(point: Point, among: Sequence[Point]) -> float:
    """The marker's size as matplotlib wants it: of the square round it, in square points. Its area is to scale."""
    largest = max(p.parameters for p in among) or 1
    return max(LARGEST * point.parameters / largest, SMALLEST) / _filled(_look(point)[0])


@functools.cache
def _filled(marker: str) -> float:
    """The share of the square round it that a marker fills: all of "s", π/4 of "o", half of "^"."""
    shape = MarkerStyle(marker)
    (outline,) = shape.get_path().transformed(shape.get_transform()).to_polygons()
    x, y = outline.T
    return float(abs(x[:-1] @ y[1:] - x[1:] @ y[:-1]) / 2)  # the shoelace formula


def _height(axes: Axes, point: Point) -> float:
    """Where a point stands, in %: at its accuracy, or just above the lower edge."""
    low, high = axes.get_ylim()
    return max(100 * point.accuracy, low + 0.04 * (high - low))


def _is_below(axes: Axes, point: Point) -> bool:
    return 100 * point.accuracy < _height(axes, point)


def _places(axes: Axes, points: Sequence[Point]) -> np.ndarray:
    """(N, 2): where the points stand."""
    return np.array([(p.images_per_s, _height(axes, p)) for p in points]).reshape(-1, 2)


def _stairs(places: np.ndarray) -> np.ndarray:
    """(N, 2) places from left to right → (2 N − 1, 2): with the corners between them, as "steps-pre" draws them."""
    corners = np.repeat(places, 2, axis=0)
    return np.stack([corners[:-1, 0], corners[1:, 1]], axis=1)


def _has_interval(point: Point) -> bool:
    return point.accuracy_low is not None and point.accuracy_high is not None


def _draw(axes: Axes, point: Point, size: float) -> None:
    marker, colour = _look(point)
    _draw_interval(axes, point, color=COLOURS["ink"], linewidth=1.3, zorder=5.5)  # its marker may be the taller
    axes.scatter(
        [point.images_per_s], [_height(axes, point)], s=size, marker=marker, color=colour, edgecolor="white",
        linewidth=0.6, zorder=5 if point.yours else 4, gid=point.label,
    )  # fmt: skip


def _draw_interval(axes: Axes, point: Point, **look: Any) -> None:
    if _has_interval(point):
        axes.vlines(point.images_per_s, 100 * point.accuracy_low, 100 * point.accuracy_high, **look)


def _draw_reference(axes: Axes, reference: Sequence[Point], everyone: Sequence[Point]) -> None:
    for point in sorted(reference, key=lambda p: -p.parameters):
        _draw_interval(axes, point, color=COLOURS["grey"], linewidth=1.3, zorder=1.6)
        axes.scatter(
            [point.images_per_s], [_height(axes, point)], s=_size(point, everyone), marker=_look(point)[0],
            facecolor="white", edgecolor=COLOURS["grey"], linewidth=1.3, zorder=1.5, gid=f"reference: {point.label}",
        )  # fmt: skip
    if front := pareto_front(reference):
        axes.plot(
            *_places(axes, front).T, drawstyle="steps-pre",
            color=COLOURS["grey"], linewidth=1, dashes=(2, 3), zorder=1, label="reference front",
        )  # fmt: skip


def _notes(points: Sequence[Point], front: Sequence[Point], reference: Sequence[Point]) -> list[str]:
    has_line = len({(point.images_per_s, point.accuracy) for point in front}) > 1
    everyone = [*points, *reference]
    least = max(p.parameters for p in everyone) * SMALLEST / LARGEST  # parameters: who has fewer has as small a marker
    least = float(f"{least:.2g}") if any(p.parameters < least for p in everyone) else 0
    beaten = "Under the dashed stairs a network is beaten: another is at least as fast, and more accurate."
    notes = [beaten] if has_line else []
    area = f"Marker’s area: parameters{f' (below {least:,.0f}, all the same)' * (least > 0)}."
    line = " Upright line: lowest to highest seed." * any(map(_has_interval, everyone))
    notes += [area + line]
    if points:
        notes.append(f"Stars: yours, {_training(points)}." if _are_all_yours(points) else f"{_training(points)}.")
    if everyone[0].is_sample:
        notes.append("Trained on the small sample of the images: compare it with other sample runs alone.")
    if reference:
        where = reference[0].measured_on or "another device"
        notes.append(f"Hollow: the reference, {_training(reference)}, on {where}.")
    return notes


def _are_all_yours(points: Sequence[Point]) -> bool:
    """Then a word in front of each name would only take room."""
    return all(point.yours for point in points)


def _training(points: Sequence[Point]) -> str:
    """`3 seeds, 2 epochs`, or `1 to 3 seeds, 1 to 5 epochs`."""
    epochs = [point.epochs for point in points if point.epochs is not None]
    words = [_range([point.seeds for point in points], "seed"), _range(epochs, "epoch") if epochs else ""]
    return f"{', '.join(filter(None, words))} a network"


def _range(numbers: Sequence[int], noun: str) -> str:
    low, high = min(numbers), max(numbers)
    return counted(high, noun) if low == high else f"{low} to {counted(high, noun)}"


# --- axes -----------------------------------------------------------------------------------------------------------


def _limit(axes: Axes, points: Sequence[Point]) -> None:
    """A log axis of plain numbers for throughput, and an axis for accuracy that leaves out what is far below."""
    speeds = np.log([p.images_per_s for p in points])
    room = max(0.10 * np.ptp(speeds), 0.12)
    make_logarithmic(axes.xaxis, float(np.exp(speeds.min() - room)), float(np.exp(speeds.max() + room)))

    ends = [100 * value for p in points for value in (p.accuracy, p.accuracy_low, p.accuracy_high) if value is not None]
    fence = lower_fence([100 * p.accuracy for p in points])
    shown = [value for value in ends if value >= fence]
    if np.ptp(shown) >= np.ptp(ends) / 3:  # the others keep a third of the height: nothing needs to go
        shown = ends
    room = max(0.10 * (max(shown) - min(shown)), 0.3)
    axes.set_ylim(min(shown) - room, max(shown) + room)


def lower_fence(values: Sequence[float]) -> float:
    """Tukey's outer one: three quartile distances below the lower quartile. Of fewer than five values, none: −inf."""
    if len(values) < 5:
        return -math.inf
    lower, upper = np.quantile(values, [0.25, 0.75])
    return float(lower - 3 * (upper - lower))


# --- labels ---------------------------------------------------------------------------------------------------------


def _write_labels(
    figure: LessonFigure,
    axes: Axes,
    named: Sequence[Point],
    points: Sequence[Point],
    reference: Sequence[Point],
) -> None:
    """Lay the figure out for good, find a free place for each label, and write it there."""
    figure.lay_out()
    to_pixels, everyone = axes.transData.transform, [*points, *reference]

    def spots(of: Sequence[Point]) -> np.ndarray:
        return to_pixels(_places(axes, of))

    def radii(of: Sequence[Point]) -> np.ndarray:
        reach = [math.sqrt(_size(p, everyone)) / 2 * TIPS.get(_look(p)[0], 1) for p in of]
        return np.array(reach) * figure.dpi / 72 + 1

    is_said = not _are_all_yours(points)
    texts = [_text(axes, point, point in points, is_said=is_said) for point in named]
    obstacles = [boxes_round(spots(reference), 2 * radii(reference)[:, None])]
    for point in filter(_has_interval, everyone):
        low, high = to_pixels([(point.images_per_s, 100 * y) for y in (point.accuracy_low, point.accuracy_high)])
        obstacles.append(np.array([[low[0] - 1, low[1], high[0] + 1, high[1]]]))
    fronts = [_stairs(spots(pareto_front(group))) for group in (points, reference)]
    place_texts(
        texts,
        radii(named),
        obstacles=np.concatenate(obstacles),
        lines=np.concatenate([samples(front[:-1], front[1:], 40).reshape(-1, 2) for front in fronts]),
    )


def _text(axes: Axes, point: Point, is_own: bool, *, is_said: bool) -> Annotation:
    """The label's text, for now at its point. is_said: that it is yours, where it is."""
    words = f"yours: {point.label}" if point.yours and is_said else point.label
    if _is_below(axes, point):
        words += f"  ↓ {point.accuracy:.1%}"
    colour = readable(COLOURS["yours"]) if point.yours else COLOURS["ink"] if is_own else COLOURS["quiet"]
    return axes.annotate(
        words, (point.images_per_s, _height(axes, point)), (0, 0), textcoords="offset points", ha="center", va="center",
        color=colour, weight="bold" if point.yours else "normal", zorder=6, gid=f"label: {point.label}",
        annotation_clip=False, path_effects=HALO, parse_math=False,
    )  # fmt: skip


# --- words and checks -----------------------------------------------------------------------------------------------


def _in_words(points: Sequence[Point], front: Sequence[Point]) -> str:
    fastest_first = sorted(points, key=lambda p: p.images_per_s, reverse=True)
    each = "; ".join(f"{p.label} {p.images_per_s:,.0f} images/s, {p.accuracy:.1%}" for p in fastest_first)
    networks = counted(len(points), "network")
    accuracy = f"{points[0].evaluated_on.capitalize()} accuracy"
    return (
        f"{accuracy} against images per second for {networks}, the fastest first: {each}. "
        f"On the Pareto front: {', '.join(p.label for p in front)}."
    )


def _check(points: Sequence[Point], reference: Sequence[Point]) -> None:
    if not points and not reference:
        raise ValueError("points must hold at least one network to draw, got none: has the sweep finished a run?")
    if len(points) + len(reference) > MOST:
        raise ValueError(f"at most {MOST} points can be told apart on one plot, got {len(points) + len(reference)}")
    for point in (*points, *reference):
        one_of(f"{point.label}: evaluated_on", point.evaluated_on, ("test", "validation"))
        whole(f"{point.label}: seeds", point.seeds, least=1)
        if point.epochs is not None:
            whole(f"{point.label}: epochs", point.epochs, least=1)
        for name in ("images_per_s", "accuracy", "accuracy_low", "accuracy_high", "parameters"):
            value = getattr(point, name)
            if value is None and name in ("accuracy_low", "accuracy_high"):
                continue
            if not isinstance(value, Real) or not math.isfinite(value):
                raise ValueError(f"{point.label}: {name} must be a number, got {value!r}; measure it again")
            if name.startswith("accuracy") and not 0 <= value <= 1:
                raise ValueError(f"{point.label}: {name} must be a share, from 0 to 1, got {value!r}")
        if point.images_per_s <= 0:
            raise ValueError(f"{point.label}: images_per_s must be above 0, got {point.images_per_s!r}")
    for group in (points, reference):
        for point in group:
            if point.measured_on != group[0].measured_on:
                raise ValueError(
                    f"{point.label} was measured on {point.measured_on or '?'}, {group[0].label} on "
                    f"{group[0].measured_on or '?'}: such throughputs can't share an axis. Measure both alike"
                )
    if len(images := sorted({point.evaluated_on for point in (*points, *reference)})) > 1:
        raise ValueError(
            f"accuracies on one plot must be on the same images, got some on {' and some on '.join(images)} images; "
            f"draw them apart"
        )
    if len({point.is_sample for point in (*points, *reference)}) > 1:
        sample = next(point.label for point in (*points, *reference) if point.is_sample)
        raise ValueError(
            f"{sample} was trained on the sample, others on all of the images; they can't be compared. Draw them apart"
        )
