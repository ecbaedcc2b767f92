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
BAND = 0.22  # its opacity


@style()
def learning_curves(
    histories: Mapping[str, History | Sequence[History]], *, num_classes: int = 10, title: str = "Loss"
) -> LessonFigure:
    """Loss on the left: a line for the training images (smoothed), a marker for the validation images after an epoch.
    Accuracy on the validation images on the right, if they were looked at.

    histories: by name, up to seven. Several of one name are seeds: the line is their mean, the band reaches from the
    lowest to the highest, and markers have an upright line that does. The dotted line is what a network has that gives
    each of `num_classes` classes the same chance, ln(num_classes).
    """
    _check(histories)
    runs = {name: _Runs(h if isinstance(h, Sequence) else [h]) for name, h in histories.items()}
    has_validation = any(len(arm.validated) for arm in runs.values())
    figure = LessonFigure(height=4.4)
    left, right = figure.subplots(1, 2) if has_validation else (figure.add_subplot(), None)
    looks = {name: (CYCLE[i], MARKERS[i]) for i, name in enumerate(runs)}
    longest = max(arm.steps[-1] for arm in runs.values())
    _draw_losses(left, runs, looks, math.log(num_classes), num_classes)
    left.set(xlabel="epoch", xlim=(0, 1.02 * longest))
    left.xaxis.get_major_locator().set_params(integer=longest > 1.5)
    _name_ends(left, {name: (arm.steps[-1], arm.losses.mean(0)[-1]) for name, arm in runs.items()}, looks)
    words = "line: training, marker: validation" if right is not None else "on the training images"
    headline(left, title, f"{words}\n{_what_bands_are(runs)}".rstrip())

    if right is not None:
        validated = {name: arm for name, arm in runs.items() if len(arm.validated)}
        for name, arm in validated.items():
            colour, marker = looks[name]
            right.plot(arm.validated, arm.accuracies.mean(0), marker=marker, color=colour, gid=f"accuracy: {name}")
            if arm.seeds > 1:
                _draw_band(right, arm.validated, arm.accuracies, colour, f"accuracy band: {name}")
        right.set(xlabel="epoch", xlim=(0, 1.02 * longest))
        right.xaxis.get_major_locator().set_params(integer=True)
        right.margins(y=0.12)
        _name_ends(right, {n: (arm.validated[-1], arm.accuracies.mean(0)[-1]) for n, arm in validated.items()}, looks)
        headline(right, "Accuracy, %", f"on the validation images\n{_what_bands_are(validated)}".rstrip())

    figure.title = title if right is None else f"{title} and accuracy"
    figure.alt = " ".join(arm.in_words(name) for name, arm in runs.items())
    return figure


class _Runs:
    """The runs of one arm, one a seed, as arrays with a row a seed: what is drawn of them."""

    def __init__(self, histories: Sequence[History]) -> None:
        first = histories[0]
        window = max(1, first.total_steps // 50)
        self.seeds = len(histories)
        self.raw = np.array([history.losses for history in histories], float)
        self.losses = np.array([smoothed(history.losses, window) for history in histories])  # (seeds, steps)
        self.steps = np.arange(1, self.losses.shape[1] + 1) / first.steps_per_epoch  # in epochs
        seen = [[e for e in history.epochs if e["validation_accuracy"] is not None] for history in histories]
        self.validated = np.array([epoch["epoch"] for epoch in seen[0]])
        self.validation_losses = np.array([[epoch["validation_loss"] for epoch in epochs] for epochs in seen])
        self.accuracies = np.array([[100 * epoch["validation_accuracy"] for epoch in epochs] for epochs in seen])

    def in_words(self, name: str) -> str:
        words = f"{name}: training loss from {self.raw[:, 0].mean():.2f} to {self.raw[:, -20:].mean():.2f}"
        if len(self.validated):
            means = [f"{accuracy:.1f}%" for accuracy in self.accuracies.mean(0)]
            words += f", validation accuracy {listed(means)}"
        words += f", in {counted(float(self.steps[-1]), 'epoch')}"
        if self.seeds > 1:
            words += f", the mean of {self.seeds} seeds"
            if len(self.validated):
                last = self.accuracies[:, -1]
                words += f"; the last accuracy lies between {last.min():.1f}% and {last.max():.1f}%"
        return f"{words}."


def _what_bands_are(runs: Mapping[str, _Runs]) -> str:
    """What several seeds are drawn as; empty where there are none."""
    seeds = sorted({arm.seeds for arm in runs.values() if arm.seeds > 1})
    if not seeds:
        return ""
    number = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return f"mean of {number} seeds, band: lowest to highest"


def _draw_losses(
    axes: Axes, runs: Mapping[str, _Runs], looks: Mapping[str, tuple[str, str]], chance: float, num_classes: int
) -> None:
    tops = [1.06 * chance]
    for name, arm in runs.items():
        colour, marker = looks[name]
        axes.plot(arm.steps, arm.losses.mean(0), color=colour, gid=f"loss: {name}")
        if arm.seeds > 1:
            _draw_band(axes, arm.steps, arm.losses, colour, f"loss band: {name}")
        tops.append(arm.losses.max())
        if len(arm.validated):
            means = arm.validation_losses.mean(0)
            axes.plot(arm.validated, means, marker, color=colour, markeredgecolor="white", zorder=3)
            tops.append(arm.validation_losses.max())
            if arm.seeds > 1:
                low, high = arm.validation_losses.min(0), arm.validation_losses.max(0)
                axes.vlines(arm.validated, low, high, color=colour, zorder=2.9, gid=f"validation loss: {name}")
    axes.axhline(chance, color=COLOURS["ink"], linestyle=":", linewidth=1.2)
    axes.annotate(
        f"chance: ln {num_classes} = {chance:.3f}", (1, chance), (0, -5), color=COLOURS["quiet"],
        xycoords=("axes fraction", "data"), textcoords="offset points", ha="right", va="top",
    )  # fmt: skip
    axes.set_ylim(0, min(max(tops) * 1.02, 2 * chance))


def _draw_band(axes: Axes, x: np.ndarray, values: np.ndarray, colour: str, gid: str) -> None:
    """From the lowest to the highest of `values` (seeds, N) at each of `x` (N,)."""
    axes.fill_between(x, values.min(0), values.max(0), color=colour, alpha=BAND, linewidth=0, gid=gid)


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


def _check(histories: Mapping[str, History]) -> None:
    if not isinstance(histories, Mapping):
        kind = type(histories).__name__
        raise ValueError(f'histories must be a dict of names and histories, {{"LeNet": history}}, got a {kind}')
    if not 1 <= len(histories) <= len(CYCLE):
        raise ValueError(f"histories must hold 1 to {len(CYCLE)} runs to draw, got {len(histories)}")
    for name, several in histories.items():
        several = several if isinstance(several, Sequence) else [several]
        if not several:
            raise ValueError(f"{name}: there must be at least one history, got an empty list")
        if not all(history.losses for history in several):
            raise ValueError(f"{name}: its history has no steps; train it before you draw it")
        _check_alike(name, several)


def _check_alike(name: str, histories: Sequence[History]) -> None:
    """Seeds of one arm have the same steps, and were looked at after the same epochs."""
    first = histories[0]
    for history in histories[1:]:
        for what, one, other in (
            ("steps", len(first.losses), len(history.losses)),
            ("steps an epoch", first.steps_per_epoch, history.steps_per_epoch),
            ("epochs with validation", _validated(first), _validated(history)),
        ):
            if one != other:
                raise ValueError(
                    f"{name}: runs that are drawn as one band must have the same {what}, got {one} and {other}; was "
                    f"one of them stopped early? Draw it under a name of its own"
                )


def _validated(history: History) -> int:
    return sum(epoch["validation_accuracy"] is not None for epoch in history.epochs)
