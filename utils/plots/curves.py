"""Learning curves: the loss while a network learns, and the accuracy on what it doesn't learn from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from utils.checks import shown, whole
from utils.plots.sheet import text_width, wrapped
from utils.plots.style import COLOURS, CSS_DPI, CYCLE, WIDTH, LessonFigure, headline, readable, style
from utils.words import counted, listed

if TYPE_CHECKING:
    from utils.results import Record
    from utils.training import History

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
BAND = 0.22  # its opacity
TEXT, LINE = 16, 0.22  # a name's size in CSS pixels (12 points), a line's height in inches
LEFT = 0.7  # inches, of a panel left of its axes
LONGEST = 0.4  # of a panel's width: longer names would leave no room for the lines
RECORDED = {"recipe", "steps_per_epoch", "steps_per_loss", "losses", "loss", "accuracy", "evaluate_on"}  # what is drawn
SMOOTHED = 50  # a line is the mean over one part in 50 of all losses


@dataclass(frozen=True)
class Curve:
    """One training run as it is drawn. Times are in epochs."""

    times: np.ndarray  # (N,), one a loss
    losses: np.ndarray  # (N,)
    window: int  # over how many losses the line is a mean
    validated: np.ndarray  # (E,)
    validation_losses: np.ndarray  # (E,)
    accuracies: np.ndarray  # (E,), in %


def curve_of(run: Curve | History | Record) -> Curve:
    """What `learning_curves` draws of a run: of the history that `fit` gives, or of a record that a sweep has filed.

    A record's losses are means over `steps_per_loss` steps, each drawn at the last of them; validation is drawn if it
    was evaluated on the validation images. Raises ValueError for anything else.
    """
    if isinstance(run, Curve):
        return run
    if isinstance(run, Mapping):
        return _curve_of_record(run)
    if not hasattr(run, "losses"):
        raise ValueError(f"a run to draw must be the history that fit gives, or a record of a sweep, got {shown(run)}")
    seen = [epoch for epoch in run.epochs if epoch["validation_accuracy"] is not None]
    return Curve(
        times=np.arange(1, len(run.losses) + 1) / run.steps_per_epoch,
        losses=np.array(run.losses, float),
        window=max(1, run.total_steps // SMOOTHED),
        validated=np.array([epoch["epoch"] for epoch in seen], int),
        validation_losses=np.array([epoch["validation_loss"] for epoch in seen], float),
        accuracies=100 * np.array([epoch["validation_accuracy"] for epoch in seen], float),
    )


def _curve_of_record(record: Record) -> Curve:
    if record.get("kind") != "run":
        raise ValueError(f"a record to draw must be of kind 'run', got {record.get('kind')!r}: leave the others out")
    if missing := RECORDED - record.keys():
        raise ValueError(f"a record to draw must be one that sweep has filed, got one without {min(missing)!r}")
    epochs, steps_per_epoch, losses = record["recipe"]["epochs"], record["steps_per_epoch"], record["losses"]
    ends = np.arange(1, len(losses) + 1) * record["steps_per_loss"]  # the last mean may be of fewer steps
    is_validated = record["evaluate_on"] == "validation"
    return Curve(
        times=np.minimum(ends, epochs * steps_per_epoch) / steps_per_epoch,
        losses=np.array(losses, float),
        window=max(1, len(losses) // SMOOTHED),
        validated=np.array([epochs] * is_validated, int),
        validation_losses=np.array([record["loss"]] * is_validated, float),
        accuracies=100 * np.array([record["accuracy"]] * is_validated, float),
    )


@style()
def learning_curves(
    histories: Mapping[str, History | Record | Sequence[History | Record]],
    *,
    num_classes: int = 10,
    title: str = "Loss",
    width: float = WIDTH,
) -> LessonFigure:
    """Loss on the left: a line for the training images (smoothed), a marker for the validation images after an epoch.
    Accuracy on the validation images on the right, if they were looked at.

    histories: by name, up to seven. Several under one name are seeds: lines and markers are their means, and bands
    and upright lines reach from the lowest seed to the highest. A sweep's records of runs do as well. The dotted line
    is what a network has that gives each of `num_classes` classes the same chance, ln(num_classes). Names stand at the
    lines' ends, and where one is too long for that, below. width: in inches.
    """
    whole("num_classes", num_classes, least=2)
    arms = _arms(histories)
    has_validation = any(len(arm.validated) for arm in arms.values())
    panel = width / (1 + has_validation)  # inches
    is_named_below = max(text_width(name, TEXT) for name in arms) > LONGEST * panel * CSS_DPI
    figure = LessonFigure(width, 4.4 + (LINE * len(arms) if is_named_below else 0))
    left, right = figure.subplots(1, 2) if has_validation else (figure.add_subplot(), None)
    looks = {name: (CYCLE[i], MARKERS[i]) for i, name in enumerate(arms)}
    longest = max(arm.times[-1] for arm in arms.values())
    _draw_losses(left, arms, looks, num_classes)
    left.set(xlabel="epoch", xlim=(0, 1.02 * longest))
    left.xaxis.get_major_locator().set_params(integer=longest > 1.5)
    words = "line: training, marker: validation" if right is not None else "on the training images"
    room = (panel - LEFT) * CSS_DPI
    headline(left, title, _subtitle(words, arms, room))

    if right is not None:
        _draw_accuracies(right, arms, looks)
        right.set(xlabel="epoch", xlim=(0, 1.02 * longest))
        right.xaxis.get_major_locator().set_params(integer=True)
        right.margins(y=0.12)
        headline(right, "Accuracy, %", _subtitle("on the validation images", arms, room))

    if is_named_below:
        _name_below(figure, arms, looks)
    else:
        for axes, ends in zip(figure.axes, _ends(arms), strict=False):
            name_ends(axes, ends, looks)
    figure.title = title if right is None else f"{title} and accuracy"
    figure.alt = " ".join(_in_words(name, arm) for name, arm in arms.items())
    return figure


@dataclass(frozen=True)
class _Arm:
    """The runs that have one name, a row a seed in all arrays of two dimensions."""

    times: np.ndarray  # (N,)
    raw: np.ndarray  # (seeds, N)
    losses: np.ndarray  # (seeds, N), smoothed
    validated: np.ndarray  # (E,)
    validation_losses: np.ndarray  # (seeds, E)
    accuracies: np.ndarray  # (seeds, E)

    @classmethod
    def of(cls, curves: Sequence[Curve]) -> _Arm:
        first = curves[0]
        return cls(
            times=first.times,
            raw=np.array([curve.losses for curve in curves]),
            losses=np.array([smoothed(curve.losses, curve.window) for curve in curves]),
            validated=first.validated,
            validation_losses=np.array([curve.validation_losses for curve in curves]),
            accuracies=np.array([curve.accuracies for curve in curves]),
        )

    @property
    def seeds(self) -> int:
        return len(self.raw)


def _subtitle(words: str, arms: Mapping[str, _Arm], room: float) -> str:
    """`words`, and what several seeds are drawn as, in lines of at most `room` CSS pixels."""
    lines = [words]
    if seeds := sorted({arm.seeds for arm in arms.values() if arm.seeds > 1}):
        number = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        lines += wrapped(f"mean of {number} seeds, band: lowest to highest", TEXT, room)
    return "\n".join(lines)


def _draw_losses(axes: Axes, arms: Mapping[str, _Arm], looks: Mapping[str, tuple[str, str]], num_classes: int) -> None:
    chance = math.log(num_classes)
    tops = [1.06 * chance]
    for name, arm in arms.items():
        colour, marker = looks[name]
        _draw_range(axes, arm.times, arm.losses, colour, gid=f"loss band: {name}")
        axes.plot(arm.times, arm.losses.mean(0), color=colour, gid=f"loss: {name}")
        _draw_spread(axes, arm.validated, arm.validation_losses, colour, gid=f"validation loss range: {name}")
        axes.plot(
            arm.validated, arm.validation_losses.mean(0), marker, color=colour, markeredgecolor="white", zorder=3,
            gid=f"validation loss: {name}",
        )  # fmt: skip
        tops += [arm.losses.max(), *arm.validation_losses.flat]
    axes.axhline(chance, color=COLOURS["ink"], linestyle=":", linewidth=1.2)
    axes.annotate(
        f"chance: ln {num_classes} = {chance:.3f}", (1, chance), (0, -5), color=COLOURS["quiet"],
        xycoords=("axes fraction", "data"), textcoords="offset points", ha="right", va="top",
    )  # fmt: skip
    axes.set_ylim(0, min(max(tops) * 1.02, 2 * chance))


def _draw_accuracies(axes: Axes, arms: Mapping[str, _Arm], looks: Mapping[str, tuple[str, str]]) -> None:
    for name, arm in arms.items():
        colour, marker = looks[name]
        _draw_range(axes, arm.validated, arm.accuracies, colour, gid=f"accuracy band: {name}")
        _draw_spread(axes, arm.validated, arm.accuracies, colour, gid=f"accuracy range: {name}")
        axes.plot(arm.validated, arm.accuracies.mean(0), marker=marker, color=colour, gid=f"accuracy: {name}")


def _draw_range(axes: Axes, times: np.ndarray, values: np.ndarray, colour: str, *, gid: str) -> None:
    """A band from the lowest to the highest of `values` (seeds, N) at `times` (N,), if there are several seeds."""
    if len(values) > 1 and len(times):
        low, high = values.min(0), values.max(0)
        axes.fill_between(times, low, high, color=colour, alpha=BAND, linewidth=0, zorder=1.5, gid=gid)


def _draw_spread(axes: Axes, times: np.ndarray, values: np.ndarray, colour: str, *, gid: str) -> None:
    """The same as an upright line at each of `times`: one epoch alone has no band."""
    if len(values) > 1 and len(times):
        axes.vlines(times, values.min(0), values.max(0), color=colour, linewidth=1.2, zorder=2.9, gid=gid)


def smoothed(values: Sequence[float], window: int) -> np.ndarray:
    """The mean of each value and the `window` − 1 before it (of fewer at the start): (N,)."""
    sums = np.cumsum(np.concatenate([[0.0], np.asarray(values, float)]))
    stops = np.arange(1, len(sums))
    starts = np.maximum(stops - window, 0)
    return (sums[stops] - sums[starts]) / (stops - starts)


def _ends(arms: Mapping[str, _Arm]) -> tuple[dict[str, tuple[float, float]], ...]:
    """Where each line ends: of the losses, of the accuracies."""
    seen = {name: arm for name, arm in arms.items() if len(arm.validated)}
    return (
        {name: (arm.times[-1], arm.losses.mean(0)[-1]) for name, arm in arms.items()},
        {name: (arm.validated[-1], arm.accuracies.mean(0)[-1]) for name, arm in seen.items()},
    )


def name_ends(axes: Axes, ends: Mapping[str, tuple[float, float]], looks: Mapping[str, tuple[str, str]]) -> None:
    """Each line's name right of the axes, at the height of its end, but no two on top of each other."""
    low, high = axes.get_ylim()
    line = (high - low) / 15  # a line of text, in every version of matplotlib
    names = sorted(ends, key=lambda name: ends[name][1])
    for name, y in zip(names, spread([ends[name][1] for name in names], line, low, high), strict=True):
        axes.annotate(
            name, (1, y), (6, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center",
            color=readable(looks[name][0]), annotation_clip=False, parse_math=False,
        )  # fmt: skip
    axes.set_ylim(low, high)


def _name_below(figure: LessonFigure, arms: Mapping[str, _Arm], looks: Mapping[str, tuple[str, str]]) -> None:
    """A line for each name under the axes, with a piece of what it names."""
    pieces = [
        Line2D([], [], color=colour, marker=marker if len(arms[name].validated) else None, label=name)
        for name, (colour, marker) in looks.items()
    ]
    figure.legend(
        handles=pieces, loc="outside lower left", labelcolor=[readable(colour) for colour, _ in looks.values()],
        borderpad=0, labelspacing=0.3,
    )  # fmt: skip


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


def _in_words(name: str, arm: _Arm) -> str:
    words = f"{name}: training loss from {arm.raw[:, 0].mean():.2f} to {arm.raw[:, -20:].mean():.2f}"
    if len(arm.validated):
        words += f", validation accuracy {listed([f'{accuracy:.1f}%' for accuracy in arm.accuracies.mean(0)])}"
    words += f", in {counted(float(arm.times[-1]), 'epoch')}"
    if arm.seeds > 1:
        last = arm.raw[:, -20:].mean(1)
        words += f", means of {arm.seeds} seeds; the last loss is {last.min():.2f} to {last.max():.2f}"
        if len(arm.validated):
            last = arm.accuracies[:, -1]
            words += f", the last accuracy {last.min():.1f}% to {last.max():.1f}%"
    return f"{words}."


def _arms(histories: Mapping[str, Any]) -> dict[str, _Arm]:
    """What is drawn under each name. Raises ValueError for what can't be."""
    if not isinstance(histories, Mapping):
        kind = type(histories).__name__
        raise ValueError(f'histories must be a dict of names and histories, {{"LeNet": history}}, got a {kind}')
    if not 1 <= len(histories) <= len(CYCLE):
        raise ValueError(f"histories must hold 1 to {len(CYCLE)} runs to draw, got {len(histories)}")
    arms = {}
    for name, runs in histories.items():
        curves = [curve_of(run) for run in (runs if isinstance(runs, Sequence) else [runs])]
        if not curves:
            raise ValueError(f"{name}: there must be at least one history to draw, got an empty list")
        if not all(len(curve.losses) for curve in curves):
            raise ValueError(f"{name}: its history has no steps; train it before you draw it")
        if not all(np.isfinite(numbers).all() for curve in curves for numbers in vars(curve).values()):
            raise ValueError(f"{name}: its losses and accuracies must be finite numbers, and some are nan or infinite")
        _check_alike(name, curves)
        arms[name] = _Arm.of(curves)
    return arms


def _check_alike(name: str, curves: Sequence[Curve]) -> None:
    """Seeds of one arm have losses at the same times, and were looked at after the same epochs."""
    for curve in curves[1:]:
        for what, one, other in (
            ("losses", len(curves[0].losses), len(curve.losses)),
            ("length in epochs", float(curves[0].times[-1]), float(curve.times[-1])),
            ("epochs with validation", curves[0].validated.tolist(), curve.validated.tolist()),
        ):
            if one != other:
                raise ValueError(
                    f"{name}: seeds that are drawn as one band must have the same {what}, got {one} and {other}: was "
                    f"one of them stopped early, or trained otherwise? Give it a name of its own"
                )
