"""Accuracy against arithmetic, of published networks: the plot that lectures show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from utils.plots.axes import HALO, make_logarithmic, place_texts
from utils.plots.style import LessonFigure, headline, style
from utils.plots.tradeoff import LOOKS, OTHER

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
    make_logarithmic(axes.xaxis, places[:, 0].min() / 1.4, places[:, 0].max() * 1.6)
    room = max(0.1 * np.ptp(places[:, 1]), 0.5)
    axes.set_ylim(places[:, 1].min() - room, places[:, 1].max() + room)
    most = max(network.parameters for network in networks)
    areas = [max(SMALLEST, LARGEST * network.parameters / most) for network in networks]
    for network, place, area in zip(networks, places, areas, strict=True):
        marker, colour = LOOKS.get(network.family, OTHER)
        axes.scatter(*place, s=area, marker=marker, color=colour, alpha=0.85, linewidth=0, gid=network.label)
    axes.set(xlabel="GMAC an image (thousand million multiply-accumulates)", ylabel="top-1 accuracy on ImageNet, %")
    headline(axes, title, "As torchvision publishes them. Marker’s area: parameters (the smallest, all the same).")
    figure.lay_out()
    texts = [
        axes.annotate(
            network.label, tuple(place), (0, 0), textcoords="offset points", ha="center", va="center",
            annotation_clip=False, gid=f"label: {network.label}", path_effects=HALO,
        )
        for network, place in zip(networks, places, strict=True)
    ]  # fmt: skip
    radii = np.sqrt(areas) / 2 * figure.dpi / 72 + 1
    place_texts(texts, radii, obstacles=np.empty((0, 4)), lines=np.empty((0, 2)))

    figure.title = title
    figure.alt = f"{title}: " + "; ".join(
        f"{n.label} {n.accuracy:.1%} with {n.macs / 1e9:.2f} GMAC and {n.parameters / 1e6:.1f} million parameters"
        for n in networks
    )
    return figure
