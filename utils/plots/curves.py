"""Learning curves: the loss while a network learns, and the accuracy on what it doesn't learn from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from utils.plots.style import COLOURS, CYCLE, LessonFigure, counted, headline, listed, readable, style

if TYPE_CHECKING:
    from utils.training import History

MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@style()
def learning_curves(histories: Mapping[str, History], *, num_classes: int = 10, title: str = "Loss") -> LessonFigure:
    """Loss on the left: a line for the training images (smoothed), a marker for the validation images after an epoch.
    Accuracy on the validation images on the right, if they were looked at.

    histories: by name, up to seven. The dotted line is what a network has that gives each of `num_classes` classes
    the same chance, ln(num_classes).
    """
    _check(histories)
    seen = {name: [e for e in h.epochs if e["validation_accuracy"] is not None] for name, h in histories.items()}
    figure = LessonFigure(height=4.4)
    left, right = figure.subplots(1, 2) if any(seen.values()) else (figure.add_subplot(), None)
    looks = {name: (CYCLE[i], MARKERS[i]) for i, name in enumerate(histories)}

    chance, longest = math.log(num_classes), max(len(h.losses) / h.steps_per_epoch for h in histories.values())
    tops, ends = [1.06 * chance], {}
    for name, history in histories.items():
        colour, marker = looks[name]
        losses = smoothed(history.losses, window=max(1, history.total_steps // 50))
        steps = np.arange(1, len(losses) + 1) / history.steps_per_epoch
        left.plot(steps, losses, color=colour)
        left.plot(
            [e["epoch"] for e in seen[name]], [e["validation_loss"] for e in seen[name]], marker, color=colour,
            markeredgecolor="white", zorder=3,
        )  # fmt: skip
        tops += [max(losses), *(e["validation_loss"] for e in seen[name])]
        ends[name] = (steps[-1], losses[-1])
    left.axhline(chance, color=COLOURS["ink"], linestyle=":", linewidth=1.2)
    left.annotate(
        f"chance: ln {num_classes} = {chance:.3f}", (1, chance), (0, -5), color=COLOURS["quiet"],
        xycoords=("axes fraction", "data"), textcoords="offset points", ha="right", va="top",
    )  # fmt: skip
    left.set(xlabel="epoch", xlim=(0, 1.02 * longest), ylim=(0, min(max(tops) * 1.02, 2 * chance)))
    left.xaxis.get_major_locator().set_params(integer=longest > 1.5)
    _name_ends(left, ends, looks)
    headline(left, title, "line: training, marker: validation" if right is not None else "on the training images")

    if right is not None:
        ends = {}
        for name, epochs in seen.items():
            colour, marker = looks[name]
            accuracies = [100 * e["validation_accuracy"] for e in epochs]
            right.plot([e["epoch"] for e in epochs], accuracies, marker=marker, color=colour)
            if epochs:
                ends[name] = (epochs[-1]["epoch"], accuracies[-1])
        right.set(xlabel="epoch", xlim=(0, 1.02 * longest))
        right.xaxis.get_major_locator().set_params(integer=True)
        right.margins(y=0.12)
        _name_ends(right, ends, looks)
        headline(right, "Accuracy, %", "on the validation images")

    figure.title = title if right is None else f"{title} and accuracy"
    figure.alt = " ".join(_in_words(name, histories[name], seen[name]) for name in histories)
    return figure


def smoothed(values: Sequence[float], window: int) -> np.ndarray:
    """The mean of each value and the `window` − 1 before it (of fewer at the start): (N,)."""
    sums = np.cumsum(np.concatenate([[0.0], np.asarray(values, float)]))
    stops = np.arange(1, len(sums))
    starts = np.maximum(stops - window, 0)
    return (sums[stops] - sums[starts]) / (stops - starts)


def _name_ends(axes: Axes, ends: Mapping[str, tuple[float, float]], looks: Mapping[str, tuple[str, str]]) -> None:
    """Each line's name right of the axes, at the height of its end, but no two on top of each other."""
    low, high = axes.get_ylim()
    line = (high - low) / 17  # about a line of text
    names = sorted(ends, key=lambda name: ends[name][1])
    for name, y in zip(names, spread([ends[name][1] for name in names], line, low, high), strict=True):
        axes.annotate(
            name, (1, y), (6, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center",
            color=readable(looks[name][0]), annotation_clip=False,
        )  # fmt: skip
    axes.set_ylim(low, high)


def spread(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """`values`, rising, moved as little as needed so that neighbours are `gap` apart, from `low` to `high`."""
    placed: list[float] = []
    for value in values:
        placed.append(max(value, placed[-1] + gap if placed else low))
    ceiling = max(high, low + gap * (len(placed) - 1))
    for i in reversed(range(len(placed))):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - gap
    return placed


def _in_words(name: str, history: History, seen: Sequence[Mapping[str, float]]) -> str:
    words = f"{name}: training loss from {history.losses[0]:.2f} to {np.mean(history.losses[-20:]):.2f}"
    if seen:
        accuracies = [f"{epoch['validation_accuracy']:.1%}" for epoch in seen]
        words += f", validation accuracy {listed(accuracies)}"
    return f"{words}, in {counted(len(history.losses) / history.steps_per_epoch, 'epoch')}."


def _check(histories: Mapping[str, History]) -> None:
    if not isinstance(histories, Mapping):
        kind = type(histories).__name__
        raise ValueError(f'histories must be a dict of names and histories, {{"LeNet": history}}, got a {kind}')
    if not 1 <= len(histories) <= len(CYCLE):
        raise ValueError(f"histories must hold 1 to {len(CYCLE)} runs to draw, got {len(histories)}")
    for name, history in histories.items():
        if not history.losses:
            raise ValueError(f"{name}: its history has no steps; train it before you draw it")
