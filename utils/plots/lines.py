"""Lines through points that belong together: error against depth, images/s against batch size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from utils.checks import shown
from utils.plots.axes import make_logarithmic, plain
from utils.plots.curves import MARKERS, name_ends
from utils.plots.style import CYCLE, LessonFigure, headline, style

Row = Sequence[float]  # (x, y), or (x, y, low, high)


@style()
def lines(
    series: Mapping[str, Sequence[Row]],
    *,
    x: str,
    y: str,
    title: str,
    note: str = "",
    labels: Mapping[float, str] | None = None,
    log: str = "",
) -> LessonFigure:
    """A line with markers for each of up to seven series of (x, y) or (x, y, low, high), named at its right end.

    x, y: what the axes measure, with units. labels: what stands under the axis at some x, instead of numbers. log: "x",
    "y" or "xy" for logarithmic axes. An upright line reaches from low to high.
    """
    if not isinstance(series, Mapping) or not 1 <= len(series) <= len(CYCLE):
        raise ValueError(f"series must be a dict of 1 to {len(CYCLE)} names and lists of (x, y), got {shown(series)}")
    if log not in ("", "x", "y", "xy"):
        raise ValueError(f"log must be '', 'x', 'y' or 'xy', got {log!r}")
    rows = {name: _checked(name, values, log) for name, values in series.items()}
    figure = LessonFigure(height=4.8)
    axes = figure.add_subplot()
    looks = {name: (CYCLE[i], MARKERS[i]) for i, name in enumerate(rows)}
    for name, values in rows.items():
        colour, marker = looks[name]
        axes.plot(values[:, 0], values[:, 1], color=colour, marker=marker, markersize=8, gid=f"line: {name}")
        if values.shape[1] == 4:
            axes.vlines(values[:, 0], values[:, 2], values[:, 3], color=colour, linewidth=1.3)
    across = np.concatenate([values[:, 0] for values in rows.values()])
    upwards = np.concatenate([values[:, 1:].ravel() for values in rows.values()])  # with the ends of the lines
    for axis, values, scale in ((axes.xaxis, across, "x"), (axes.yaxis, upwards, "y")):
        if scale in log:
            make_logarithmic(axis, values.min() / 1.15, values.max() * 1.15)
        else:
            axis.set_major_formatter(lambda value, _: plain(value))
    if labels:
        axes.set_xticks(list(labels), list(labels.values()))
    axes.set(xlabel=x, ylabel=y)
    if len(rows) > 1:
        name_ends(axes, {name: (values[-1, 0], values[-1, 1]) for name, values in rows.items()}, looks)
    headline(axes, title, note or None)

    def place(x: float) -> str:
        return (labels or {}).get(x, f"{x:,.4g}").replace("\n", " ")

    figure.title = title
    figure.alt = f"{title}: {y} against {x}. " + " ".join(
        f"{name}: " + ", ".join(f"{row[1]:,.4g} at {place(row[0])}" for row in values) + "."
        for name, values in rows.items()
    )
    return figure


def _checked(name: str, values: Sequence[Row], log: str) -> np.ndarray:
    table = np.array([tuple(row) for row in values], float) if len({len(row) for row in values}) == 1 else np.empty(0)
    if table.ndim != 2 or table.shape[1] not in (2, 4):
        raise ValueError(f"{name}: its points must all be (x, y), or all (x, y, low, high), got {list(values)[:2]!r} …")
    if not np.isfinite(table).all():
        raise ValueError(f"{name}: its points must be finite numbers")
    if table.shape[1] == 4 and (wrong := table[table[:, 2] > table[:, 3]]).size:
        x, _, low, high = wrong[0]
        raise ValueError(f"{name}: low must be at most high, got low={low:g} and high={high:g} at x={x:g}")
    for scale, own in (("x", table[:, :1]), ("y", table[:, 1:])):
        if scale in log and own.min() <= 0:
            raise ValueError(f"{name}: on a logarithmic {scale} axis numbers must be above 0, got {own.min():g}")
    return table[table[:, 0].argsort(kind="stable")]
