"""Accuracy against arithmetic, of published networks: the plot that lectures show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from utils.plots.labels import place_labels, samples
from utils.plots.style import COLOURS, LessonFigure, headline, style, text_size
from utils.plots.tradeoff import LOOKS, OTHER, log_ticks

if TYPE_CHECKING:
    from utils.published import Published

SMALLEST, LARGEST = 50.0, 900.0  # a marker's area, in square points


@style()
def published(networks: Sequence[Published], *, title: str = "AlexNet, VGG, and what followed") -> LessonFigure:
    """Top-1 accuracy on ImageNet against GMACs an image; a marker's area is the parameters, its shape the family.

    networks: what `utils.published.published` gives.
    """
    networks = list(networks)
    if not networks:
        raise ValueError("networks must hold at least one to draw, got none")
    figure = LessonFigure(height=5.8)
    axes = figure.add_subplot()
    places = np.array([(network.macs / 1e9, 100 * network.accuracy) for network in networks])
    low, high = places[:, 0].min() / 1.4, places[:, 0].max() * 1.6
    room = max(0.1 * np.ptp(places[:, 1]), 0.5)
    axes.set(xscale="log", xlim=(low, high), ylim=(places[:, 1].min() - room, places[:, 1].max() + room))
    axes.xaxis.set_major_locator(FixedLocator(log_ticks(low, high)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    most = max(network.parameters for network in networks)
    areas = [max(SMALLEST, LARGEST * network.parameters / most) for network in networks]
    for network, place, area in zip(networks, places, areas, strict=True):
        marker, colour = LOOKS.get(network.family, OTHER)
        axes.scatter(*place, s=area, marker=marker, color=colour, alpha=0.85, linewidth=0, gid=network.label)
    axes.set(xlabel="GMAC an image (thousand million multiply-accumulates)", ylabel="top-1 accuracy on ImageNet, %")
    headline(axes, title, "As torchvision publishes them. Marker’s area: parameters (the smallest, all the same).")
    _write_labels(figure, axes, networks, places, areas)

    figure.title = title
    figure.alt = f"{title}: " + "; ".join(
        f"{n.label} {n.accuracy:.1%} with {n.macs / 1e9:.2f} GMAC and {n.parameters / 1e6:.1f} million parameters"
        for n in networks
    )
    return figure


def _write_labels(figure, axes, networks, places, areas) -> None:
    figure.lay_out()
    texts = [
        axes.annotate(
            network.label, tuple(place), (0, 0), textcoords="offset points", ha="center", va="center",
            annotation_clip=False, gid=f"label: {network.label}",
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )
        for network, place in zip(networks, places, strict=True)
    ]  # fmt: skip
    spots, box = axes.transData.transform(places), axes.get_window_extent()
    sizes = np.array([text_size(text) for text in texts]) * figure.dpi
    radii = np.array([math.sqrt(area) / 2 for area in areas]) * figure.dpi / 72 + 1
    placed = place_labels(
        spots, radii, sizes, within=(box.x0, box.y0, figure.bbox.x1, box.y1), obstacles=np.empty((0, 4)),
        lines=samples(np.empty((0, 2)), np.empty((0, 2)), 2).reshape(-1, 2),
    )  # fmt: skip
    points = 72 / figure.dpi
    for text, placement, spot in zip(texts, placed, spots, strict=True):
        text.set_position(((placement.x - spot[0]) * points, (placement.y - spot[1]) * points))
        if placement.leader is not None:
            rim, label = (np.array(placement.leader) - spot) * points
            axes.annotate(
                "", text.xy, tuple(label), textcoords="offset points", annotation_clip=False,
                arrowprops={"arrowstyle": "-", "color": COLOURS["grey"], "linewidth": 0.9, "shrinkA": 0,
                            "shrinkB": float(np.hypot(*rim))},
            )  # fmt: skip
