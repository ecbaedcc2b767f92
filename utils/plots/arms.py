"""The arms of an experiment, one below the other: each seed, the mean, and the interval round it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from matplotlib.axes import Axes

from utils.plots.style import COLOURS, LessonFigure, headline, style
from utils.plots.tradeoff import lower_fence
from utils.words import counted, listed

if TYPE_CHECKING:
    from utils.results import Record

ROW = 0.42  # inches


@style()
def arms(runs: Mapping[str, Sequence[Record]], *, title: str = "Accuracy, arm by arm") -> LessonFigure:
    """One row an arm: a dot for each seed, an upright mark at their mean, a line for its 95 % interval.

    runs: the records of each arm, as `utils.comparing.by_arm` gives them. An arm so far below the others that these
    would lie in one place stands at the left edge, with its value. Raises ValueError if there is none, or their
    accuracies are not on the same images.
    """
    from utils.comparing import accuracies_of, accuracy_interval, checked

    accuracies = {name: accuracies_of(own) for name, own in checked(runs).items()}
    means = {name: fmean(values) for name, values in accuracies.items()}
    intervals = {name: accuracy_interval(own) for name, own in runs.items() if len(own) > 1}
    fence = lower_fence(list(means.values()))
    inside = [name for name in accuracies if means[name] >= fence]
    ends = [end for name in inside for end in (*accuracies[name], *intervals.get(name, ()))]
    room = max(0.06 * (max(ends) - min(ends)), 0.1)

    figure = LessonFigure(height=1.95 + ROW * len(accuracies))
    axes = figure.add_subplot()
    axes.set(xlim=(min(ends) - room, max(ends) + room), ylim=(len(accuracies) - 0.5, -0.5))
    for row, (name, values) in enumerate(accuracies.items()):
        _draw(axes, row, name, values, means[name], intervals.get(name))
    axes.set_yticks(range(len(accuracies)), accuracies)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.grid(True, axis="x")
    axes.spines["left"].set_visible(False)
    images = next(iter(runs.values()))[0]["evaluate_on"]
    axes.set_xlabel(f"{images} accuracy, %")
    headline(axes, title, _note(accuracies))

    figure.title = title
    figure.alt = f"{images.capitalize()} accuracy: " + "; ".join(
        _in_words(name, values, means[name], intervals.get(name)) for name, values in accuracies.items()
    )
    return figure


def _draw(
    axes: Axes,
    row: int,
    name: str,
    values: Sequence[float],
    mean: float,
    interval: tuple[float, float] | None,
) -> None:
    left = axes.get_xlim()[0]
    beside = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
    axes.annotate(f"{mean:.2f} %", (1, row), (8, 0), annotation_clip=False, gid=f"mean: {name}", **beside)
    if mean < left:
        axes.annotate("← far below", (0, row), (4, 0), color=COLOURS["quiet"], gid=f"below: {name}", **beside)
        return
    if interval:
        axes.hlines(row, *interval, color=COLOURS["ink"], linewidth=1.3, zorder=3, gid=f"interval: {name}")
        axes.vlines(mean, row - 0.2, row + 0.2, color=COLOURS["ink"], linewidth=2, zorder=4)
    axes.scatter(
        values, [row] * len(values), s=42, color=COLOURS["convolution"], alpha=0.75, linewidth=0, zorder=5,
        gid=f"seeds: {name}",
    )  # fmt: skip


def _note(accuracies: Mapping[str, Sequence[float]]) -> str:
    seeds = sorted({len(values) for values in accuracies.values()})
    number = counted(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    if seeds[-1] == 1:
        return "One seed an arm: there is no interval."
    return f"{number} an arm. Dot: a seed. Upright mark: their mean.\nLine: its 95 % interval over the seeds."


def _in_words(name: str, values: Sequence[float], mean: float, interval: tuple[float, float] | None) -> str:
    words = f"{name} {mean:.2f}%"
    return words + (f", interval {listed([f'{end:.2f}' for end in interval])}" if interval else "")
