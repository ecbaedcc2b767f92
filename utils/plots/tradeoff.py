"""The throughput–accuracy plot: what accuracy costs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from utils.plots.labels import Placement, place_labels, samples
from utils.plots.style import COLOURS, LessonFigure, darker, headline, style, text_size
from utils.results import Point, pareto_front

# Families differ by marker and by colour; what isn't one of the three is a diamond.
LOOKS = {
    "LeNet": ("s", "#7A8087"),
    "AlexNet": ("^", COLOURS["dense"]),
    "VGG": ("o", COLOURS["convolution"]),
}
OTHER = ("D", COLOURS["ink"])
YOURS = ("*", COLOURS["yours"])
SMALLEST, LARGEST = 55.0, 420.0  # a marker's area, in square points
TICKS = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(1 + n / 5 for n in range(45)))  # × powers of ten
MOST = 40  # points that can be told apart


@style()
def throughput_accuracy(
    points: Sequence[Point],
    *,
    reference: Sequence[Point] = (),
    title: str = "What accuracy costs",
    accuracy: str = "test accuracy",
) -> LessonFigure:
    """Accuracy against inference throughput, one labelled point a network; up is better, right is faster.

    points: yours. A marker's shape is the family, its area the parameters (within limits); a thin line spans the
    seeds. The dashed line is their Pareto front. reference: drawn behind them in grey. A point far below all others
    (by Tukey's rule) stands at the lower edge, with its value. accuracy: of what.

    Raises ValueError, with the point's name, for what can't be drawn, for throughputs of yours that were measured under
    different conditions, and for sample runs beside full ones.
    """
    points, reference = list(points), list(reference)
    _check(points, reference)
    figure = LessonFigure(height=5.8)
    axes = figure.add_subplot()
    _limit(axes, [*points, *reference])
    _draw_reference(axes, reference)
    front = pareto_front(points)
    axes.plot(
        [p.images_per_s for p in front], [100 * p.accuracy for p in front],
        color=COLOURS["ink"], linewidth=1.3, dashes=(4, 3), zorder=2, label="Pareto front",
    )  # fmt: skip
    for point in points:
        _draw(axes, point, _area(point, points))
    axes.set_xlabel(f"images/s in inference  ({points[0].measured_on or 'this device'})")
    axes.set_ylabel(f"{accuracy}, %")
    headline(axes, title, "\n".join(_notes(points, front, reference)))
    named = points + [p for p in reference if p.label not in {own.label for own in points}]
    _write_labels(figure, axes, named, points, reference, front)

    figure.title = title
    figure.alt = _in_words(points, front, accuracy)
    return figure


# --- what is drawn --------------------------------------------------------------------------------------------------


def _look(point: Point) -> tuple[str, str]:
    return YOURS if point.yours else LOOKS.get(point.family, OTHER)


def _area(point: Point, among: Sequence[Point]) -> float:
    """Square points. A star's arms are thin: it gets more."""
    largest = max(p.parameters for p in among) or 1
    area = min(max(LARGEST * point.parameters / largest, SMALLEST), LARGEST)
    return max(1.6 * area, 260) if point.yours else area


def _height(axes: Axes, point: Point) -> float:
    """Where a point stands, in %: at its accuracy, or just above the lower edge."""
    low, high = axes.get_ylim()
    return max(100 * point.accuracy, low + 0.04 * (high - low))


def _is_below(axes: Axes, point: Point) -> bool:
    return 100 * point.accuracy < axes.get_ylim()[0]


def _draw(axes: Axes, point: Point, area: float) -> None:
    marker, colour = _look(point)
    if point.accuracy_low is not None and point.accuracy_high is not None:
        axes.vlines(
            point.images_per_s, 100 * point.accuracy_low, 100 * point.accuracy_high,
            color=colour, linewidth=1.6, zorder=3,
        )  # fmt: skip
    axes.scatter(
        [point.images_per_s], [_height(axes, point)], s=area, marker=marker, color=colour, edgecolor="white",
        linewidth=1.2, zorder=5 if point.yours else 4, gid=point.label,
    )  # fmt: skip


def _draw_reference(axes: Axes, reference: Sequence[Point]) -> None:
    for point in reference:
        axes.scatter(
            [point.images_per_s], [_height(axes, point)], s=_area(point, reference), marker=_look(point)[0],
            facecolor="white", edgecolor=COLOURS["grey"], linewidth=1.3, zorder=1.5, gid=f"reference: {point.label}",
        )  # fmt: skip
    if front := pareto_front(reference):
        axes.plot(
            [p.images_per_s for p in front], [100 * p.accuracy for p in front],
            color=COLOURS["grey"], linewidth=1, dashes=(2, 3), zorder=1, label="reference front",
        )  # fmt: skip


def _notes(points: Sequence[Point], front: Sequence[Point], reference: Sequence[Point]) -> list[str]:
    line = "On the dashed line, nothing is both faster and better. " if len(front) > 1 else ""
    notes = [line + "A marker’s area shows its parameters."]
    if points[0].is_sample:
        notes.append("Trained on the small sample of the images: compare it with other sample runs alone.")
    if reference:
        seeds = max(point.seeds for point in reference)
        where = reference[0].measured_on or "another device"
        notes.append(f"Hollow: the reference, {seeds} seed{'s' * (seeds > 1)} a network, on {where}.")
    return notes


# --- axes -----------------------------------------------------------------------------------------------------------


def _limit(axes: Axes, points: Sequence[Point]) -> None:
    """A log axis of plain numbers for throughput, and an axis for accuracy that leaves out what is far below."""
    speeds = np.log([p.images_per_s for p in points])
    room = max(0.10 * np.ptp(speeds), 0.12)
    axes.set_xscale("log")
    axes.set_xlim(np.exp(speeds.min() - room), np.exp(speeds.max() + room))
    axes.xaxis.set_major_locator(FixedLocator(log_ticks(*axes.get_xlim())))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.xaxis.set_minor_formatter(NullFormatter())

    ends = [100 * value for p in points for value in (p.accuracy, p.accuracy_low, p.accuracy_high) if value is not None]
    fence = lower_fence([100 * p.accuracy for p in points])
    shown = [value for value in ends if value >= fence]
    room = max(0.10 * (max(shown) - min(shown)), 0.3)
    axes.set_ylim(min(shown) - room, max(shown) + room)


def lower_fence(values: Sequence[float]) -> float:
    """Tukey's: one and a half quartile distances below the lower quartile. Of fewer than five values, none: −inf."""
    if len(values) < 5:
        return -math.inf
    lower, upper = np.quantile(values, [0.25, 0.75])
    return float(lower - 1.5 * (upper - lower))


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`: the coarsest choice with at least four of them, at most nine."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in TICKS:
        ticks = [round(step * 10.0**decade, 10) for decade in decades for step in steps]
        ticks = sorted({tick for tick in ticks if low <= tick <= high})
        if len(ticks) >= 4:
            return ticks[:: math.ceil(len(ticks) / 9)]
    return ticks


# --- labels ---------------------------------------------------------------------------------------------------------


def _write_labels(
    figure: LessonFigure,
    axes: Axes,
    named: Sequence[Point],
    points: Sequence[Point],
    reference: Sequence[Point],
    front: Sequence[Point],
) -> None:
    """Lay the figure out for good, find a free place for each label, and write it there."""
    figure.draw_without_rendering()  # lays it out
    figure.set_layout_engine("none")  # and it stays so: labels are placed on pixels
    to_pixels = axes.transData.transform

    def spots(of: Sequence[Point]) -> np.ndarray:
        return to_pixels([(p.images_per_s, _height(axes, p)) for p in of]) if of else np.empty((0, 2))

    def radii(of: Sequence[Point], among: Sequence[Point]) -> np.ndarray:
        return np.array([math.sqrt(_area(p, among)) / 2 * figure.dpi / 72 + 1 for p in of])

    own = radii(named[: len(points)], points)
    others = radii(named[len(points) :], reference)
    texts = [_text(axes, point, point in points) for point in named]
    sizes = np.array([text_size(text) for text in texts]) * figure.dpi
    hollow = np.column_stack([spots(reference), radii(reference, reference)]).reshape(-1, 3)
    obstacles = [(x - r, y - r, x + r, y + r) for x, y, r in hollow]
    for point in points:
        if point.accuracy_low is not None and point.accuracy_high is not None:
            x, low = to_pixels((point.images_per_s, 100 * point.accuracy_low))
            obstacles.append((x - 1, low, x + 1, to_pixels((point.images_per_s, 100 * point.accuracy_high))[1]))
    box = axes.get_window_extent()
    line = to_pixels([(p.images_per_s, 100 * p.accuracy) for p in front])
    placed = place_labels(
        spots(named),
        np.concatenate([own, others]),
        sizes,
        within=(box.x0, box.y0, figure.bbox.x1, box.y1),
        obstacles=np.array(obstacles).reshape(-1, 4),
        lines=samples(line[:-1], line[1:], 40).reshape(-1, 2) if len(line) > 1 else np.empty((0, 2)),
    )
    for text, placement, spot, size in zip(texts, placed, spots(named), sizes, strict=True):
        _move(axes, text, placement, spot, size, figure.dpi)


def _text(axes: Axes, point: Point, is_own: bool):
    """The label's text, for now at its point."""
    words = f"yours: {point.label}" if point.yours else point.label
    if _is_below(axes, point):
        words += f"  ↓ {point.accuracy:.1%}"
    colour = darker(COLOURS["yours"], 0.1) if point.yours else COLOURS["ink"] if is_own else COLOURS["quiet"]
    return axes.annotate(
        words, (point.images_per_s, _height(axes, point)), (0, 0), textcoords="offset points", ha="center", va="center",
        color=colour, weight="bold" if point.yours else "normal", zorder=6, gid=f"label: {point.label}",
        annotation_clip=False,
    )  # fmt: skip


def _move(axes: Axes, text, placement: Placement, spot: np.ndarray, size: np.ndarray, dpi: float) -> None:
    """Put the text where it was placed, with its leader line, all in points from its marker."""
    points = 72 / dpi
    text.set_position(((placement.x - spot[0]) * points, (placement.y - spot[1]) * points))
    if placement.leader is not None:
        rim, label = (np.array(placement.leader) - spot) * points
        style = {"arrowstyle": "-", "color": COLOURS["grey"], "linewidth": 0.9, "shrinkA": 0}
        axes.annotate(
            "", text.xy, tuple(label), textcoords="offset points", annotation_clip=False,
            arrowprops=style | {"shrinkB": float(np.hypot(*rim))},
        )  # fmt: skip


# --- words and checks -----------------------------------------------------------------------------------------------


def _in_words(points: Sequence[Point], front: Sequence[Point], accuracy: str) -> str:
    fastest_first = sorted(points, key=lambda p: p.images_per_s, reverse=True)
    each = "; ".join(f"{p.label} {p.images_per_s:,.0f} images/s, {p.accuracy:.1%}" for p in fastest_first)
    return (
        f"{accuracy.capitalize()} against images per second for {len(points)} networks, the fastest first: {each}. "
        f"On the Pareto front: {', '.join(p.label for p in front)}."
    )


def _check(points: Sequence[Point], reference: Sequence[Point]) -> None:
    if not points:
        raise ValueError("points must hold at least one network to draw, got none: has the sweep finished a run?")
    if len(points) + len(reference) > MOST:
        raise ValueError(f"at most {MOST} points can be told apart on one plot, got {len(points) + len(reference)}")
    for point in (*points, *reference):
        for name in ("images_per_s", "accuracy", "accuracy_low", "accuracy_high", "parameters"):
            value = getattr(point, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{point.label}: {name} must be a number, got {value!r}; measure it again")
        if point.images_per_s <= 0:
            raise ValueError(f"{point.label}: images_per_s must be above 0, got {point.images_per_s!r}")
        if not 0 <= point.accuracy <= 1:
            raise ValueError(f"{point.label}: accuracy must be a share, from 0 to 1, got {point.accuracy!r}")
    for group in (points, reference):
        for point in group:
            if point.measured_on != group[0].measured_on:
                raise ValueError(
                    f"{point.label} was measured on {point.measured_on or '?'}, {group[0].label} on "
                    f"{group[0].measured_on or '?'}: such throughputs can't share an axis. Measure both alike"
                )
    if len({point.is_sample for point in (*points, *reference)}) > 1:
        sample = next(point.label for point in (*points, *reference) if point.is_sample)
        raise ValueError(
            f"{sample} was trained on the sample, others on all of the images; they can't be compared. Draw them apart"
        )
