"""utils/plots: what stands in the pictures, read off the artists and the files, never off the functions that put it
there. No test needs a screen, a network or data."""

import base64
import io
import itertools
import json
import math
import os
import random
import re
import struct
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from IPython.core.pylabtools import select_figure_formats
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import same_color, to_hex, to_rgb
from matplotlib.markers import MarkerStyle
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Affine2D
from PIL import Image

from utils import plots
from utils.plots.sheet import text_width
from utils.plots.style import compact
from utils.results import Point
from utils.training import History

ROOT = Path(__file__).resolve().parents[1]
CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
CPU = "AMD EPYC, 2 cores, batch 256, float32"
LONG = "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz, 16 cores, batch 256, bfloat16"
GPU = "NVIDIA H100 80GB HBM3, batch 256, bfloat16"


# --- points -----------------------------------------------------------------------------------------------------------


def point(label="VGG (1,1)", family="VGG", images_per_s=1000.0, accuracy=0.9, **more):
    return Point(label, family, images_per_s, accuracy, **{"parameters": 100_000, "measured_on": CPU} | more)


def spanned(label, family, images_per_s, accuracy, spread, parameters):
    ends = {"accuracy_low": accuracy - spread, "accuracy_high": accuracy + spread}
    return point(label, family, images_per_s, accuracy, parameters=parameters, seeds=3, **ends)


EIGHT = [
    spanned("LeNet (book)", "LeNet", 46_900, 0.884, 0.003, 61_706),
    spanned("LeNet", "LeNet", 43_300, 0.892, 0.003, 61_706),
    spanned("AlexNet small", "AlexNet", 20_100, 0.897, 0.006, 549_098),
    spanned("VGG (1,1)", "VGG", 37_600, 0.907, 0.002, 206_922),
    spanned("VGG (1,1,1)", "VGG", 26_800, 0.901, 0.003, 98_442),
    spanned("VGG (2,2)", "VGG", 7_930, 0.906, 0.002, 218_490),
    spanned("VGG-11 ⅛ + BN", "VGG", 15_600, 0.900, 0.004, 171_226),
    spanned("VGG (2,2,2) + BN", "VGG", 5_330, 0.918, 0.002, 147_386),
]
YOURS = point("VGG (1,2)", "VGG", 18_000, 0.911, parameters=120_000, yours=True)
REFERENCE = [
    replace(p, images_per_s=25 * p.images_per_s, accuracy=p.accuracy + 0.012, accuracy_low=p.accuracy + 0.010,
            accuracy_high=p.accuracy + 0.015, seeds=16, measured_on=GPU)
    for p in [*EIGHT, spanned("VGG (3,3,3)", "VGG", 3_100, 0.919, 0.002, 300_000)]
]  # fmt: skip


def random_points(seed, number=25):
    r = random.Random(seed)
    families = ("LeNet", "AlexNet", "VGG", "another")
    return [
        spanned(
            f"VGG ({i},{r.randrange(1, 9)})", r.choice(families), 10 ** r.uniform(2, 5), r.uniform(0.85, 0.95), 0.003,
            r.randrange(10_000, 3_000_000),
        )
        for i in range(number)
    ]  # fmt: skip


def clustered_points(seed, number=12):
    r = random.Random(seed)
    places = [(3000 * r.uniform(1, 1.05), r.uniform(0.9, 0.903), r.randrange(10**4, 10**6)) for _ in range(number)]
    return [point(f"VGG ({i},2)", "VGG", x, y, parameters=count) for i, (x, y, count) in enumerate(places)]


def curve(points, reference=()):
    return draw(tuple(points), tuple(reference))


@lru_cache(16)
def draw(points, reference):
    return plots.throughput_accuracy(points, reference=reference)


# --- what is drawn ----------------------------------------------------------------------------------------------------


def markers(figure):
    """By label, or "reference: …": the marker."""
    return {c.get_gid(): c for c in figure.axes[0].collections if isinstance(c, PathCollection)}


def labels(figure):
    """By the point's label: the text."""
    written = [text for text in figure.axes[0].texts if (text.get_gid() or "").startswith("label: ")]
    return {text.get_gid().removeprefix("label: "): text for text in written}


def intervals(figure):
    """[x, low, high], of each vertical line."""
    found = []
    for lines in figure.axes[0].collections:
        if isinstance(lines, LineCollection):
            for (x0, low), (x1, high) in lines.get_segments():
                assert x0 == x1
                found.append([float(x0), float(low), float(high)])
    return found


def place(marker):
    (xy,) = marker.get_offsets()
    return tuple(map(float, xy))


def front(figure, label="Pareto front"):
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == label]
    return list(zip(*map(np.ndarray.tolist, map(np.asarray, line.get_data())), strict=True))


def shape(marker):
    """The outline, as points of a marker of size 1."""
    return marker.get_paths()[0].vertices


def outline(code):
    style = MarkerStyle(code)
    return style.get_path().transformed(style.get_transform()).vertices


@contextmanager
def at(figure, dpi):
    """A curve, laid out as it is, at so many pixels an inch; gives the renderer."""
    figure.set_dpi(dpi)
    yield figure.canvas.get_renderer()
    figure.set_dpi(100)


def marker_box(figure, marker):
    scale = math.sqrt(marker.get_sizes()[0]) * figure.dpi / 72
    (centre,) = figure.axes[0].transData.transform(marker.get_offsets())
    return marker.get_paths()[0].get_extents(Affine2D().scale(scale).translate(*centre))


def overlap(a, b):
    return min(a.x1, b.x1) > max(a.x0, b.x0) and min(a.y1, b.y1) > max(a.y0, b.y0)


def inside(box, figure, slack=0.5):
    whole = figure.bbox
    return box.x0 >= -slack and box.y0 >= -slack and box.x1 <= whole.x1 + slack and box.y1 <= whole.y1 + slack


def written(figure):
    """(text, its box in pixels, or None for what isn't upright), for all that is really drawn."""
    found, draw = [], Text.draw

    def record(self, renderer):
        if self.get_visible() and self.get_text().strip():
            upright = self.get_rotation() % 90 == 0
            found.append((self, self.get_window_extent(renderer) if upright else None))
        return draw(self, renderer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", record)
        figure.savefig(io.BytesIO(), format="raw", dpi="figure")
    return list({id(text): (text, box) for text, box in found}.values())  # to lay it out, it was drawn before


def contrast(one, other):
    """WCAG 2.2's, from its definition."""

    def luminance(colour):
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def png(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def history(steps=300, steps_per_epoch=100, *, total=None, start=2.4, end=0.3, validated=True, seed=0):
    r = random.Random(seed)
    losses = [end + (start - end) * math.exp(-4 * i / steps) + r.gauss(0, 0.05) for i in range(steps)]
    epochs = [
        {
            "epoch": epoch,
            "validation_loss": end + 0.5 / epoch if validated else None,
            "validation_accuracy": 0.92 - 0.1 / epoch - end / 50 if validated else None,
        }
        for epoch in range(1, steps // steps_per_epoch + 1)
    ]
    return History({}, 0, CPU, "float32", total or steps, steps_per_epoch, losses, epochs)


def mistaken():
    """Labels and predictions of 650 images: many wrong ones, a rare one, and a class that nothing belongs to."""
    g = torch.Generator().manual_seed(0)
    labels = torch.cat([torch.randint(9, (400,), generator=g), torch.full((250,), 7)])
    predictions, chance = labels.clone(), torch.rand(650, generator=g)
    wrong = (chance < 0.3) & (torch.arange(650) < 400)
    predictions[wrong] = torch.randint(9, (int(wrong.sum()),), generator=g)
    predictions[(labels == 6) & (chance > 0.5)] = 0
    predictions[(labels == 2) & (chance > 0.7)] = 4
    predictions[-1] = 9  # less than one of 200
    return labels, predictions


LAYERS = [
    ("conv 3×3, 64", "conv", 1_792),
    ("pool", "pool", 0),
    ("conv 3×3, 512", "conv", 2_359_808),
    ("dense 25088 → 4096", "dense", 102_764_544),
    ("dropout", "other", 0),
]
NETWORKS = [p.label for p in EIGHT]


def noise(*size):
    return torch.randn(size, generator=torch.Generator().manual_seed(1))


FIGURES = {
    "curve": lambda: curve([*EIGHT, YOURS], reference=REFERENCE),
    "curve of the sample": lambda: curve([replace(p, is_sample=True, measured_on="") for p in EIGHT[:3]]),
    "curve of long names": lambda: curve(*([replace(p, measured_on=LONG) for p in ps] for ps in (EIGHT, REFERENCE))),
    "curve of two that are the same": lambda: curve([EIGHT[0]] * 2),
    "learning": lambda: plots.learning_curves({name: history(seed=i) for i, name in enumerate(NETWORKS[1:])}),
    "learning, stopped": lambda: plots.learning_curves({"LeNet": history(30, total=300, validated=False)}),
    "learning, diverging": lambda: plots.learning_curves({"a": history(start=20, end=9), "b": history(end=2.3)}),
    "images": lambda: plots.image_grid(noise(20, 28, 28), CLASSES * 2, columns=10),
    "filters": lambda: plots.filters(noise(6, 1, 5, 5)),
    "filters in colour": lambda: plots.filters(noise(20, 3, 3, 3)),
    "feature maps": lambda: plots.feature_maps(
        noise(28, 28), {"block 1": noise(6, 14, 14), "block 2": noise(16, 5, 5)}
    ),
    "confusion": lambda: plots.confusion(*mistaken(), CLASSES, noise(650, 1, 28, 28)),
    "no confusion": lambda: plots.confusion(range(10), range(10), CLASSES, noise(10, 28, 28)),
    "bars": lambda: plots.layer_bars(LAYERS, title="Where VGG’s parameters are", unit="parameters"),
}  # fmt: skip


CONFUSIONS = ("confusion", "no confusion")


@cache
def drawn(name):
    """One of FIGURES. Its title, alternative text and drawing are the same for all tests."""
    return FIGURES[name]()


# --- all figures ------------------------------------------------------------------------------------------------------

pytestmark = pytest.mark.filterwarnings("error")  # a layout that collapses, a glyph that the font lacks


@pytest.mark.parametrize("name", FIGURES)
def test_every_text_can_be_read(name):
    """It is large enough, has enough contrast, is in the figure, and no other text is on it."""
    texts = written(figure := drawn(name))
    assert texts or name == "filters in colour"
    for text, box in texts:
        small = name == "images"
        assert text.get_fontsize() >= (10.5 if small else 12), text
        if not (name in CONFUSIONS and text.get_text().isdigit()):  # on a cell: see there
            assert contrast(text.get_color(), "white") >= 4.5, text
        assert box is None or inside(box, figure), text
    for (one, a), (other, b) in itertools.combinations([(t, box) for t, box in texts if box is not None], 2):
        assert not overlap(a, b), (one, other)


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_what_it_shows(name):
    figure = drawn(name)
    assert len(figure.title) > 3 and figure.alt.strip() == figure.alt and len(figure.alt) > 10 and figure.alt[-1] == "."
    assert "nan" not in figure.alt and "  " not in figure.alt
    assert not re.search(r"\b1 (networks|images|maps|kernels|epochs|layers|times)\b", figure.alt)


SETTINGS = {
    "font.size": 40, "text.usetex": True, "font.family": ["monospace"], "figure.dpi": 37, "savefig.dpi": 61,
    "savefig.bbox": "tight", "savefig.facecolor": "black", "figure.figsize": [2, 2], "axes.facecolor": "black",
    "axes.edgecolor": "red", "axes.grid.axis": "both", "axes.formatter.use_mathtext": True, "axes.spines.top": True,
    "lines.linewidth": 9, "lines.markersize": 20, "text.color": "red", "xtick.labelsize": 30, "ytick.color": "red",
    "xtick.minor.visible": True, "image.cmap": "jet", "image.interpolation": "bicubic", "figure.autolayout": True,
    "path.sketch": (1, 100, 2), "svg.fonttype": "none", "svg.hashsalt": "mine",
}  # fmt: skip


@pytest.mark.parametrize("name", ["curve", "learning, diverging", "no confusion", "bars"])
def test_what_the_student_has_set_neither_shows_nor_changes(name):
    expected = png(drawn(name))
    with matplotlib.rc_context(SETTINGS):
        before = dict(matplotlib.rcParams)
        assert png(FIGURES[name]()) == expected
        assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("formats", [{}, {"png"}, {"svg", "retina"}], ids=len)
def test_a_notebook_shows_a_figure_once_with_its_words_and_size(formats, monkeypatch):
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")  # whatever test comes first: pyplot looks for a shell once, and this one isn't whole
    known = plt.get_fignums()
    shell = SimpleNamespace(display_formatter=(formatter := DisplayFormatter()))
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    select_figure_formats(shell, formats)  # as the inline backend does: for Figures, and before their own
    figure = plots.layer_bars(LAYERS, title="Parameters", unit="parameters")
    shown, about = formatter.format(figure)
    assert set(shown) == {"image/png", "text/plain"} and figure.alt in shown["text/plain"]
    assert about["image/png"]["alt"] == figure.alt and set(about) == {"image/png"}
    assert set(about["image/png"]) == {"width", "height", "alt"}
    header = base64.b64decode(shown["image/png"])[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    pixels, points = struct.unpack(">II", header[16:]), [72 * inches for inches in figure.get_size_inches()]
    for dots, length, size in zip(
        pixels, (about["image/png"][side] for side in ("width", "height")), points, strict=True
    ):
        assert abs(length - size * 16 / 12) <= 0.5, "12 points are 16 pixels of a page"
        assert abs(dots - 1.5 * length) <= 1.5, "and sharp"
    assert plt.get_fignums() == known, "pyplot doesn't know of it"


# --- the throughput–accuracy plot -------------------------------------------------------------------------------------


def test_each_marker_stands_at_its_data():
    figure = curve([*EIGHT, YOURS])
    assert {name: place(marker) for name, marker in markers(figure).items()} == {
        p.label: (p.images_per_s, 100 * p.accuracy) for p in [*EIGHT, YOURS]
    }


def test_families_differ_by_marker_and_colour_and_yours_is_a_star():
    others = [point(family, family, 1000 + i) for i, family in enumerate(("LeNet", "AlexNet", "VGG", "ResNet", "mine"))]
    found = markers(figure := curve([*others, YOURS]))
    codes = {"LeNet": "s", "AlexNet": "^", "VGG": "o", "ResNet": "D", "mine": "D", YOURS.label: "*"}
    for name, code in codes.items():
        np.testing.assert_array_equal(shape(found[name]), outline(code), err_msg=name)
    colours = {name: to_hex(marker.get_facecolor()[0]).upper() for name, marker in found.items()}
    assert [colours[name] for name in ("AlexNet", "VGG", YOURS.label)] == ["#E69F00", "#0072B2", "#D55E00"]
    assert colours["ResNet"] == colours["mine"] and len(set(colours.values())) == 5
    texts = labels(figure)
    assert {name: text.get_text() for name, text in texts.items()} == {
        **{p.label: p.label for p in others}, YOURS.label: "yours: VGG (1,2)",
    }  # fmt: skip
    assert {name for name, text in texts.items() if text.get_weight() == "bold"} == {YOURS.label}
    assert found[YOURS.label].get_zorder() > max(found[p.label].get_zorder() for p in others)


def test_a_markers_area_shows_the_parameters():
    millions = {"a": 4, "b": 3, "c": 1, "d": 0.001, "e": 0}
    figure = curve([point(name, "VGG", 1000 * m + 9, parameters=int(m * 1e6)) for name, m in millions.items()])
    area = {name: filled(marker) for name, marker in markers(figure).items()}
    assert area["b"] / area["a"] == pytest.approx(3 / 4) and area["c"] / area["a"] == pytest.approx(1 / 4)
    assert area["d"] == area["e"] > area["a"] / 10, "still to be seen"
    assert "Marker’s area: parameters (below 570,000, all the same)." in notes(figure)
    assert "all the same" not in notes(curve(EIGHT[2:5])), "if none has that few, nothing is said"


def test_a_markers_area_is_the_same_whatever_its_shape():
    families = ("LeNet", "AlexNet", "VGG", "another")
    points = [point(family, family, 1000.0 + i) for i, family in enumerate(families)] + [point("star", yours=True)]
    found = markers(curve(points))
    assert len({len(marker.get_paths()[0].vertices) for marker in found.values()}) > 3, "they are of different shapes"
    areas = [filled(marker) for marker in found.values()]
    assert areas == pytest.approx([areas[0]] * 5, rel=0.01)


def filled(marker):
    """The area in square points, by counting the dots of a fine grid that lie in the marker's outline."""
    outline = marker.get_paths()[0]
    side = np.linspace(-0.75, 0.75, 601)
    dots = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    return outline.contains_points(dots).mean() * 1.5**2 * float(marker.get_sizes()[0])


def test_own_and_reference_points_share_the_scale_of_areas():
    big, small = point("big", parameters=4_000_000, measured_on=GPU), point("small", parameters=1_000_000)
    area = {name: float(m.get_sizes()[0]) for name, m in markers(curve([small], reference=[big])).items()}
    assert area["small"] / area["reference: big"] == pytest.approx(1 / 4)


def test_a_small_marker_is_not_hidden_by_a_large_one():
    order = [point("a small one", parameters=10), point("large", parameters=10**7), point("b", parameters=4 * 10**6)]
    assert list(markers(curve(order))) == ["large", "b", "a small one"], "in the order of drawing"
    found = markers(curve([point("mine")], reference=order))
    assert list(found)[:3] == ["reference: large", "reference: b", "reference: a small one"]


def test_intervals_span_the_seeds():
    figure = curve([*EIGHT, YOURS])
    expected = [[p.images_per_s, 100 * p.accuracy_low, 100 * p.accuracy_high] for p in EIGHT]
    assert sorted(intervals(figure)) == sorted(expected), "yours has one seed, and none"
    low, high = figure.axes[0].get_ylim()
    assert all(low < a < b < high for _, a, b in intervals(figure))
    drawn_too = [[p.images_per_s, 100 * p.accuracy_low, 100 * p.accuracy_high] for p in REFERENCE]
    assert sorted(intervals(curve(EIGHT, reference=REFERENCE))) == sorted(expected + drawn_too)


@pytest.mark.parametrize("seed", range(4))
def test_the_front_passes_through_what_nothing_beats(seed):
    """Dominance, written out: b beats a if it is no worse in both and better in one. Half of the seeds have ties."""
    r = random.Random(seed)
    speeds, accuracies = ([1000, 2000, 3000, 4000], [0.90, 0.91, 0.92]) if seed % 2 else (None, None)
    places = [
        (r.choice(speeds), r.choice(accuracies)) if speeds else (r.uniform(500, 5000), r.uniform(0.9, 0.93))
        for _ in range(14)
    ]
    unbeaten = []
    for speed, accuracy in places:
        beaten = any(
            (s > speed and a > accuracy) or (s == speed and a > accuracy) or (s > speed and a == accuracy)
            for s, a in places
        )
        if not beaten:
            unbeaten.append((speed, 100 * accuracy))
    figure = curve([point(f"{i}", "VGG", s, a) for i, (s, a) in enumerate(places)])
    assert front(figure) == sorted(unbeaten)
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == "Pareto front"]
    assert line.get_drawstyle() == "steps-pre", "between two on the front, what is above the slower's height is faster"
    told = "Under the dashed stairs a network is beaten" in notes(figure)
    assert line.is_dashed() and told == (len(set(unbeaten)) > 1)
    names = figure.alt.partition("On the Pareto front: ")[2].rstrip(".").split(", ")
    assert sorted((places[int(i)][0], 100 * places[int(i)][1]) for i in names) == sorted(unbeaten)


def notes(figure):
    marked = {id(text) for text in labels(figure).values()}
    return " ".join(text.get_text() for text in figure.axes[0].texts if id(text) not in marked)


def test_without_a_line_no_note_speaks_of_one():
    for points in ([YOURS], [YOURS] * 2, [point("fast and good", images_per_s=99_000, accuracy=0.95), *EIGHT]):
        assert "dashed" not in notes(curve(points))


@pytest.mark.parametrize(
    ("slowest", "fastest"),
    [(speed, speed) for speed in (101, 1140, 2630, 1.04e7)]
    + [(5.1e6, 9.9e6), (1.256e7, 2.197e7), (30, 3e6), (0.02, 40), (1, 1e9)],
)
def test_throughput_has_a_log_axis_of_plain_numbers(slowest, fastest):
    figure = curve([point("a", "VGG", slowest), point("b", "VGG", fastest, 0.91)])
    axes, (left, right) = figure.axes[0], figure.axes[0].get_xlim()
    assert axes.get_xscale() == "log" and left < slowest <= fastest < right
    boxes = {}
    for text in axes.get_xticklabels(which="both"):
        if text.get_text() and left <= text.get_position()[0] <= right:
            assert re.fullmatch(r"\d{1,3}(,\d{3})*(\.\d+)?", text.get_text())
            assert float(text.get_text().replace(",", "")) == pytest.approx(text.get_position()[0], rel=1e-9)
            boxes[text.get_text()] = text.get_window_extent()
    assert 2 <= len(boxes) <= 9
    ordered = sorted(boxes.values(), key=lambda box: box.x0)
    assert all(one.x1 + 3 < other.x0 for one, other in itertools.pairwise(ordered)), list(boxes)


CROWDS = {
    "eight and yours": ([*EIGHT, YOURS], ()),
    "with a reference": ([*EIGHT, YOURS], REFERENCE),
    "reference on the same device": ([*EIGHT, YOURS], [replace(p, accuracy=p.accuracy + 0.002) for p in EIGHT]),
    "one outlier": ([*EIGHT, replace(EIGHT[0], label="LeNet (1998)", accuracy=0.73, accuracy_low=0.72)], ()),
    "cluster": (clustered_points(1), ()),
    **{f"25 random, {seed}": (random_points(seed), ()) for seed in (2, 18)},
}


@pytest.mark.parametrize("crowd", CROWDS)
def test_labels_stand_in_no_ones_way(crowd):
    """No label is on another, on a marker, on an interval, on a number or a title, or outside: at any resolution."""
    points, reference = CROWDS[crowd]
    figure = curve(points, reference=reference)
    axes, texts = figure.axes[0], labels(figure)
    assert set(texts) == {p.label for p in (*points, *reference)}
    for dpi in (100, 200):
        with at(figure, dpi) as renderer:
            boxes = {name: text.get_window_extent(renderer) for name, text in texts.items()}
            solid = {f"marker of {name}": marker_box(figure, marker) for name, marker in markers(figure).items()}
            others = [t for t in axes.findobj(Text) if t.get_text().strip() and t.get_visible()]
            others = {t.get_text(): t.get_window_extent(renderer) for t in others if t not in texts.values()}
            assert {"What accuracy costs", "test accuracy, %", axes.get_xlabel()} < set(others)
            for x, low, high in intervals(figure):
                (x0, y0), (_, y1) = axes.transData.transform([(x, low), (x, high)])
                for name, box in boxes.items():
                    assert not (box.x0 < x0 < box.x1 and min(box.y1, y1) > max(box.y0, y0)), (name, "interval", dpi)
            for name, box in boxes.items():
                assert inside(box, figure, slack=0), (name, dpi)
                for another, its in {**boxes, **solid, **others}.items():
                    assert another == name or not overlap(box, its), (name, another, dpi)


@pytest.mark.parametrize("crowd", ["with a reference", "cluster", "25 random, 18"])
def test_a_label_is_by_its_marker_or_tied_to_it(crowd):
    """Within 15 pixels, or a line leads from the one to the other."""
    points, reference = CROWDS[crowd]
    figure = curve(points, reference=reference)
    found = {name.removeprefix("reference: "): marker for name, marker in reversed(markers(figure).items())}
    own, tied = markers(figure), 0
    figure.savefig(io.BytesIO(), format="raw", dpi="figure")  # lines get their ends when they are drawn
    with at(figure, 100) as renderer:
        arrows = [t.arrow_patch for t in figure.axes[0].texts if getattr(t, "arrow_patch", None) is not None]
        ends = [(a.get_transform().transform_path(a.get_path()).vertices) for a in arrows]
        for name, text in labels(figure).items():
            box, mark = text.get_window_extent(renderer), marker_box(figure, own.get(name, found[name]))
            across = max(box.x0 - mark.x1, mark.x0 - box.x1, 0)
            upwards = max(box.y0 - mark.y1, mark.y0 - box.y1, 0)
            if math.hypot(across, upwards) > 15:
                a, b = box.padded(3), mark.padded(5)
                assert any(
                    (a.contains(*e[0]) and b.contains(*e[-1])) or (a.contains(*e[-1]) and b.contains(*e[0]))
                    for e in ends
                ), name
                tied += 1
    assert len(arrows) >= tied and (tied or not crowd.startswith("cluster"))


def test_a_far_outlier_stands_at_the_lower_edge_and_says_where_it_belongs():
    outlier = point("LeNet (1998)", "LeNet", 52_000, 0.7)
    figure, without = curve([*EIGHT, outlier]), curve(EIGHT)
    (low, high), (x, y) = figure.axes[0].get_ylim(), place(markers(figure)["LeNet (1998)"])
    assert (low, high) == without.axes[0].get_ylim(), "the axis is not stretched"
    assert x == 52_000 and low < y < low + 0.08 * (high - low)
    with at(figure, 100):
        assert marker_box(figure, markers(figure)["LeNet (1998)"]).y0 > figure.axes[0].bbox.y0, (
            "all of it is to be seen"
        )
    assert labels(figure)["LeNet (1998)"].get_text() == "LeNet (1998)  ↓ 70.0%"
    assert [text.get_text() for text in labels(figure).values()].count("LeNet") == 1
    assert sum("↓" in text.get_text() for text in labels(figure).values()) == 1
    assert front(figure)[-1] == (x, y), "it is the fastest: the line ends at its marker"
    assert "LeNet (1998) 52,000 images/s, 70.0%" in figure.alt


@pytest.mark.parametrize("accuracy", [0.88, 0.8972, 0.898, 0.9])
def test_a_marker_is_where_its_data_is_or_says_so(accuracy):
    tight = [point(f"{i}", "VGG", 1000 + 100 * i, 0.9 + 0.0005 * i) for i in range(6)]
    figure = curve([*tight, point("x", "VGG", 900, accuracy)])
    moved = place(markers(figure)["x"])[1] != 100 * accuracy
    assert moved == ("↓" in labels(figure)["x"].get_text())
    low, high = figure.axes[0].get_ylim()
    assert low < place(markers(figure)["x"])[1] < high


@pytest.mark.parametrize(("accuracy", "is_moved"), [(0.85, False), (0.77, False), (0.70, True)])
def test_only_a_point_that_would_squash_the_others_is_moved(accuracy, is_moved):
    """Six points lie between them; with 0.77 they keep more than a third of the height, with 0.70 a quarter."""
    spread = [point(f"{i}", "VGG", 1000 + 100 * i, 0.88 + 0.01 * i) for i in range(7)]
    figure = curve([*spread, point("x", "VGG", 900, accuracy)])
    assert (place(markers(figure)["x"])[1] != 100 * accuracy) == is_moved


def test_a_label_may_hold_dollars():
    name = "$x^2$ and $"
    figure = curve([*EIGHT, point(name, "VGG", 900)])
    text = labels(figure)[name]
    assert text.get_text() == name and not text.get_parse_math(), "written as it stands, not as mathematics"


def test_four_points_are_too_few_for_an_outlier():
    figure = curve([*EIGHT[1:4], point("LeNet (1998)", "LeNet", 52_000, 0.3)])
    assert place(markers(figure)["LeNet (1998)"]) == (52_000, 30)


def test_the_reference_is_hollow_behind_and_labelled_once():
    figure = curve([*EIGHT, YOURS], reference=REFERENCE)
    found, axes = markers(figure), figure.axes[0]
    hollow = {name.removeprefix("reference: "): m for name, m in found.items() if name.startswith("reference: ")}
    assert {name: place(m) for name, m in hollow.items()} == {
        p.label: (p.images_per_s, 100 * p.accuracy) for p in REFERENCE
    }
    own = [marker for name, marker in found.items() if not name.startswith("reference: ")]
    for name, marker in hollow.items():
        assert same_color(marker.get_facecolor()[0], "white") and not same_color(marker.get_edgecolor()[0], "white")
        assert marker.get_zorder() < min(m.get_zorder() for m in own), name
        np.testing.assert_array_equal(shape(marker), outline({"LeNet": "s", "AlexNet": "^"}.get(name.split()[0], "o")))
    texts = [text.get_text() for text in labels(figure).values()]
    assert sorted(texts) == sorted([*(p.label for p in EIGHT), "VGG (3,3,3)", "yours: VGG (1,2)"])
    assert sum(text.get_gid() is not None for text in axes.texts) == len(texts)
    assert f"Hollow: the reference, 16 seeds a network, on {GPU}." in notes(figure)
    assert "all the same). Upright line: lowest to highest seed.\n1 to 3 seeds a network." in notes(figure)
    assert "reference" not in notes(curve(EIGHT))
    assert "the reference, 1 seed a" in notes(curve(EIGHT, reference=[point("a")]))
    assert front(figure) == front(curve([*EIGHT, YOURS])), "the reference is on no front of yours"
    assert CPU in axes.get_xlabel() and "images/s" in axes.get_xlabel() and "test accuracy, %" in axes.get_ylabel()


def test_one_of_yours_with_a_references_name_takes_it_from_nobody():
    figure = curve([replace(YOURS, label="LeNet"), YOURS], reference=[point("LeNet"), point("AlexNet small")])
    texts = [text.get_text() for text in figure.axes[0].texts if text.get_gid() == "label: LeNet"]
    assert texts == ["LeNet", "LeNet"]


def test_where_all_points_are_yours_their_names_stand_alone_and_a_note_says_so():
    mine = [YOURS, replace(YOURS, label="VGG (9)", images_per_s=9_000.0)]
    figure = curve(mine, reference=REFERENCE)
    texts = [text.get_text() for text in labels(figure).values()]
    assert {"VGG (1,2)", "VGG (9)"} < set(texts) and not any("yours" in text for text in texts)
    assert "Stars: yours, 1 seed a network." in notes(figure)


def test_a_narrow_figure_is_as_much_higher_as_its_notes_take_lines():
    mine = [YOURS, replace(YOURS, label="VGG (9)", images_per_s=9_000.0)]
    heights = []
    for points in ([YOURS], mine):
        figure = plots.throughput_accuracy(points, reference=REFERENCE, width=5.0)
        figure.savefig(io.BytesIO(), format="png")
        box = figure.axes[0].get_window_extent()
        heights.append(box.height / figure.dpi)
        for line in notes(figure).splitlines():
            assert text_width(line, 16) < 5.0 * 96 - box.x0 * 96 / figure.dpi, line
    assert heights[0] == pytest.approx(heights[1], abs=0.3), "two lines more take nothing from the plot"


def test_points_in_another_order_give_the_same_picture():
    points = [*random_points(9, 16), YOURS, replace(YOURS, label="twin"), *EIGHT[:3]]
    reference = REFERENCE[3:]
    expected = curve(points, reference=reference)
    random.Random(1).shuffle(points)
    random.Random(2).shuffle(reference)
    figure = curve(points, reference=reference)
    assert {name: text.get_position() for name, text in labels(figure).items()} == {
        name: text.get_position() for name, text in labels(expected).items()
    }
    assert png(figure) == png(expected) and figure.alt == expected.alt


def test_one_point_and_two_that_are_the_same():
    (marker,) = markers(figure := curve([EIGHT[0]])).values()
    assert place(marker) == (46_900, 88.4) and [t.get_text() for t in labels(figure).values()] == ["LeNet (book)"]
    twins = curve([EIGHT[0]] * 2)
    texts = [text for text in twins.axes[0].texts if text.get_text() == "LeNet (book)"]
    with at(twins, 100) as renderer:
        one, other = (text.get_window_extent(renderer) for text in texts)
    assert not overlap(one, other)
    assert front(twins) == [(46_900, 88.4)] * 2


def test_sample_runs_stand_alone():
    sample = [replace(p, is_sample=True) for p in EIGHT]
    assert "small sample" in notes(curve(sample)) and "sample" not in notes(curve(EIGHT))
    with pytest.raises(ValueError, match=r"^VGG \(1,1\) was trained on the sample, others on all.*Draw them apart$"):
        curve([*EIGHT[:3], sample[3], *EIGHT[4:]])
    with pytest.raises(ValueError, match=r"^LeNet \(book\) was trained on the sample"):
        curve(sample, reference=REFERENCE)


def test_throughputs_that_were_measured_differently_share_no_axis():
    with pytest.raises(
        ValueError, match=r"^odd was measured on a phone, LeNet \(book\) on AMD EPYC.*Measure both alike"
    ):
        curve([*EIGHT, point("odd", measured_on="a phone")])
    with pytest.raises(ValueError, match=r"^odd was measured on a phone, LeNet"):
        curve(EIGHT, reference=[*REFERENCE, point("odd", measured_on="a phone")])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan"), None, "0.9"])
@pytest.mark.parametrize("field", ["images_per_s", "accuracy", "accuracy_low", "accuracy_high", "parameters"])
def test_what_is_not_a_number_is_refused(field, value):
    odd = replace(point("odd one", accuracy_low=0.88, accuracy_high=0.92), **{field: value})
    if value is None and field in ("accuracy_low", "accuracy_high"):
        assert curve([odd]).alt, "a single seed has no interval"
        return
    with pytest.raises(ValueError, match=f"^odd one: {field} must be a number, got .*; measure it again$"):
        curve([*EIGHT, odd])
    with pytest.raises(ValueError, match=f"^odd one: {field} must be a number"):
        curve(EIGHT, reference=[odd])


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("images_per_s", 0, "above 0, got 0"),
        ("images_per_s", -3.5, "above 0, got -3.5"),
        ("accuracy", 91.2, "a share, from 0 to 1, got 91.2"),
        ("accuracy", -0.01, "a share, from 0 to 1, got -0.01"),
        ("accuracy_low", -0.01, "a share, from 0 to 1, got -0.01"),
        ("accuracy_high", 92, "a share, from 0 to 1, got 92"),
    ],
)
def test_impossible_values_are_refused(field, value, words):
    with pytest.raises(ValueError, match=f"^odd one: {field} must be {words}$"):
        curve([*EIGHT, replace(point("odd one", accuracy_low=0.88, accuracy_high=0.92), **{field: value})])


def test_what_is_no_list_of_points_is_refused():
    with pytest.raises(ValueError, match=r"points must be a list of Points, got a table: write points\(networks\)"):
        plots.throughput_accuracy(pd.DataFrame([vars(YOURS)]))
    with pytest.raises(ValueError, match=r"points\[0\] must be a Point, got 'LeNet'"):
        plots.throughput_accuracy(["LeNet"])
    with pytest.raises(ValueError, match="points must be a sequence such as a tuple or a list, got Point"):
        plots.throughput_accuracy(YOURS)
    with pytest.raises(ValueError, match="reference must be a sequence such as a tuple or a list, got None"):
        plots.throughput_accuracy(EIGHT, reference=None)


def test_no_points_and_too_many_are_refused():
    with pytest.raises(ValueError, match="at least one network to draw, got none"):
        curve([])
    with pytest.raises(ValueError, match=r"at most 40 points .* got 41"):
        curve([point(f"{i}") for i in range(33)], reference=EIGHT)


def test_numpys_numbers_will_do():
    figure = curve([point("a", images_per_s=np.float32(1000), accuracy=np.float32(0.5), parameters=np.int64(10))])
    assert place(markers(figure)["a"]) == (1000, 50)


# --- learning curves --------------------------------------------------------------------------------------------------


def test_a_curve_is_the_mean_of_the_latest_losses():
    histories = {"long": history(300, 100), "stopped": history(130, 100, total=500), "short": history(7, 5)}
    figure = plots.learning_curves(histories)
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 5]
    for line, (run, window, per_epoch) in zip(
        lines, (("long", 6, 100), ("stopped", 10, 100), ("short", 1, 5)), strict=True
    ):
        losses = histories[run].losses
        expected = [np.mean(losses[max(0, i - window + 1) : i + 1]) for i in range(len(losses))]
        np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-12)
        np.testing.assert_allclose(line.get_xdata(), [(i + 1) / per_epoch for i in range(len(losses))])
    assert len({line.get_color() for line in lines}) == 3


def test_validation_has_a_marker_at_each_epochs_end():
    histories = {"a": history(300, 100, end=0.3), "b": history(250, 100, total=300, end=0.6)}
    loss, accuracy = plots.learning_curves(histories).axes
    dotted = [line for line in loss.lines if line.get_linestyle() == "None"]
    for line, right, (name, epochs) in zip(dotted, accuracy.lines, (("a", [1, 2, 3]), ("b", [1, 2])), strict=True):
        rows = histories[name].epochs
        assert list(line.get_xdata()) == list(right.get_xdata()) == epochs
        assert list(line.get_ydata()) == [row["validation_loss"] for row in rows]
        np.testing.assert_allclose(right.get_ydata(), [100 * row["validation_accuracy"] for row in rows])
        assert line.get_marker() == right.get_marker() != "None" and line.get_color() == right.get_color()
    assert dotted[0].get_marker() != dotted[1].get_marker() and dotted[0].get_color() != dotted[1].get_color()


@pytest.mark.parametrize("num_classes", [10, 100])
def test_the_dotted_line_is_what_guessing_has(num_classes):
    figure = plots.learning_curves({"a": history()}, num_classes=num_classes)
    axes = figure.axes[0]
    (line,) = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert list(line.get_ydata()) == pytest.approx([math.log(num_classes)] * 2)
    assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > math.log(num_classes)
    assert any(f"ln {num_classes} = {math.log(num_classes):.3f}" in text.get_text() for text in axes.texts)


@pytest.mark.parametrize(
    "histories",
    [
        {name: history(seed=i) for i, name in enumerate(NETWORKS[1:])},
        {name: history(end=0.3 + 0.3 * i, seed=i) for i, name in enumerate("abcdefg")},
        {name: history(end=2.3, seed=i) for i, name in enumerate("abcdefg")},
        {name: history(start=30, end=20, seed=i) for i, name in enumerate("abcdefg")},
    ],
    ids=["alike", "apart", "at chance", "off the scale"],
)
def test_each_curve_has_its_name_and_no_two_overlap(histories):
    figure = plots.learning_curves(histories)
    texts = written(figure)
    (chance,) = [box for text, box in texts if "ln 10" in text.get_text()]
    assert figure.axes[0].bbox.x0 < chance.x0 and chance.x1 <= figure.axes[0].bbox.x1 + 1
    for axes in figure.axes:
        named = {
            text.get_text(): (text, box) for text, box in texts if text in axes.texts and text.get_text() in histories
        }
        assert set(named) == set(histories)
        assert all(inside(box, figure) and box.x0 >= axes.bbox.x1 for _, box in named.values())
        assert not any(overlap(a, b) for (_, a), (_, b) in itertools.combinations(named.values(), 2))
        solid = {line.get_marker(): line.get_color() for line in axes.lines if line.get_marker() != "None"}
        for (text, _), colour in zip((named[name] for name in histories), solid.values(), strict=True):
            assert np.argsort(to_rgb(text.get_color())).tolist() == np.argsort(to_rgb(colour)).tolist(), "the same hue"
        levels = [named[name][1].y0 for name in histories]
        ends = [h.losses[-1] for h in histories.values()]
        if axes is figure.axes[0] and max(ends) - min(ends) > 1 and max(ends) < 3:
            assert levels == sorted(levels), "the name of a higher curve is higher"


def test_a_curve_that_leaves_the_scale_leaves_the_layout_alone():
    """Its markers too are cut off at the edge, not drawn across the title."""
    figure = plots.learning_curves({"wild": history(start=30, end=20), "tame": history()})
    axes = figure.axes[0]
    assert axes.get_ylim()[1] <= 2.01 * math.log(10) and all(line.get_clip_on() for line in axes.lines)
    just = plots.learning_curves(
        {"a": replace(history(), epochs=[{"epoch": 1, "validation_loss": 3.5, "validation_accuracy": 0.1}])}
    )
    assert just.axes[0].get_ylim()[1] > 3.5, "a validation loss above all of training’s is seen"


def test_without_validation_there_is_one_panel():
    assert len(plots.learning_curves({"a": history(validated=False)}).axes) == 1
    figure = plots.learning_curves({"a": history(validated=False), "b": history()})
    assert len(figure.axes) == 2 and [len(line.get_xdata()) for line in figure.axes[1].lines] == [0, 3]
    assert [t.get_text() for t in figure.axes[1].texts if t.get_text() in "ab"] == ["b"]


def test_a_run_that_was_stopped_early_is_drawn_as_far_as_it_came():
    figure = plots.learning_curves({"stopped": history(30, 100, total=300), "done": history(100, 100)})
    short, long = (line.get_xdata() for line in figure.axes[0].lines if len(line.get_xdata()) > 5)
    assert (short[-1], long[-1]) == (0.3, 1.0) and 1 <= figure.axes[0].get_xlim()[1] < 1.1
    assert figure.alt.startswith("stopped: training loss from 2.45 to 0.51, in 0.3 epochs. done: training loss")
    assert figure.alt.endswith("validation accuracy 81.4%, in 1 epoch.")
    assert len(plots.learning_curves({"one step": history(1, 100, total=300)}).axes) == 1


def test_runs_that_cannot_be_drawn_are_refused():
    with pytest.raises(ValueError, match=r"^VGG: its history has no steps; train it before you draw it$"):
        plots.learning_curves({"LeNet": history(), "VGG": history(0, total=300)})
    with pytest.raises(ValueError, match="1 to 7 runs to draw, got 8"):
        plots.learning_curves({str(i): history() for i in range(8)})
    with pytest.raises(ValueError, match="1 to 7 runs to draw, got 0"):
        plots.learning_curves({})
    with pytest.raises(ValueError, match=r"histories must be a dict of names and histories, .* got a list"):
        plots.learning_curves([1])
    with pytest.raises(ValueError, match=r"must be the history that fit gives, or a record of a sweep, got 3$"):
        plots.learning_curves({"LeNet": 3})


# --- pictures ---------------------------------------------------------------------------------------------------------


def pictures(figure):
    """What each axes that shows a picture shows, as an array."""
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


@pytest.mark.parametrize(
    "images",
    [
        torch.arange(5 * 12).reshape(5, 3, 4).to(torch.uint8),
        torch.arange(5.0 * 12).reshape(5, 1, 3, 4).requires_grad_(),
        torch.arange(5.0 * 12).reshape(5, 3, 4).bfloat16(),
        np.arange(5.0 * 12).reshape(5, 3, 4),
        [np.arange(12.0).reshape(3, 4) - 7] * 5,
    ],
    ids=["uint8", "1 channel, gradient", "bfloat16", "numpy", "list"],
)
def test_images_stand_in_rows_over_their_titles(images):
    figure = plots.image_grid(images, list("abcde"), columns=3)
    places = {}
    for axes in figure.axes:
        if axes.images:
            np.testing.assert_allclose(axes.images[0].get_array(), np.arange(12).reshape(3, 4) / 11, atol=0.03)
            (text,) = axes.texts
            spec = axes.get_subplotspec()
            places[text.get_text()] = (spec.rowspan.start, spec.colspan.start)
    assert places == {"a": (0, 0), "b": (0, 1), "c": (0, 2), "d": (1, 0), "e": (1, 1)}
    assert all(text.get_fontsize() == 12 for axes in figure.axes for text in axes.texts)
    assert figure.alt == "5 images: a, b, c, d, e."
    for text, box in written(figure):
        mine = text.axes.images[0].get_window_extent()
        assert box.y1 <= mine.y0 + 1 and mine.x0 < (box.x0 + box.x1) / 2 < mine.x1, "below its image"


@pytest.mark.parametrize("number", [1, 3])
def test_few_images_are_as_large_as_four(number):
    figure, four = plots.image_grid(noise(number, 28, 28)), plots.image_grid(noise(4, 28, 28))
    figure.canvas.draw(), four.canvas.draw()
    sides = [f.axes[0].images[0].get_window_extent().width for f in (figure, four)]
    assert sides[0] == pytest.approx(sides[1], rel=0.02)
    assert sum(bool(axes.images) for axes in figure.axes) == number


def test_images_in_colour_and_flat_ones():
    colours = torch.stack([torch.zeros(3, 2, 2), torch.ones(3, 2, 2)])
    colours[0, 0, 0, 1] = 8
    shown, flat = pictures(plots.image_grid(colours))
    assert shown.shape == (2, 2, 3) and shown[0, 1].tolist() == [1, 0, 0] and shown.sum() == 1
    assert (flat == 0).all(), "without NaN"
    assert plots.image_grid(colours, torch.tensor([3, 9])).alt == "2 images: 3, 9."


def test_images_that_cannot_be_drawn_are_refused():
    with pytest.raises(ValueError, match="images must hold at least one to draw, got none"):
        plots.image_grid(torch.zeros(0, 1, 8, 8))
    for size in ((8, 8), (2, 2, 8, 8), (1, 2, 3, 8, 8)):
        with pytest.raises(ValueError, match=rf"images must have the shape .* got {re.escape(str(size))}$"):
            plots.image_grid(torch.zeros(size))
    with pytest.raises(ValueError, match="titles must be one an image: expected 3, got 2"):
        plots.image_grid(torch.zeros(3, 8, 8), ["a", "b"])
    with pytest.raises(ValueError, match="columns must be a whole number of at least 1, got 0"):
        plots.image_grid(torch.zeros(3, 8, 8), columns=0)


@pytest.mark.parametrize("given", [torch.nn.Linear(3, 3), None, "images", [[1], [2, 3]], [torch.nn.Flatten()]])
def test_what_is_no_numbers_is_not_drawn(given):
    for draw in (
        plots.image_grid,
        plots.filters,
        lambda x: plots.feature_maps(x, {}),
        lambda x: plots.confusion(x, x, "ab"),
    ):
        with pytest.raises(ValueError, match="only a tensor or an array of numbers can be drawn, got "):
            draw(given)


@pytest.mark.parametrize("kind", ["float32", "gradient", "bfloat16", "numpy"])
def test_filters_are_red_above_zero_and_blue_below(kind):
    weights = torch.tensor([[-0.5, 0.0, 0.25], [0.125, 1.0, -0.25]]).reshape(2, 1, 1, 3)
    given = {"gradient": weights.clone().requires_grad_(), "bfloat16": weights.bfloat16(), "numpy": weights.numpy()}
    figure = plots.filters(torch.nn.Parameter(weights) if kind == "gradient" else given.get(kind, weights))
    images = [axes.images[0] for axes in figure.axes if axes.images]
    for image, kernel in zip(images, weights, strict=True):
        assert np.asarray(image.get_array()).tolist() == kernel[0].tolist()
        assert image.get_clim() == (-1, 1), "one scale for all, zero in its middle"
        red, blue, white = (image.to_rgba(np.array([value]))[0, :3] for value in (0.5, -0.5, 0.0))
        assert red[0] > red[2] + 0.3 and blue[2] > blue[0] + 0.3 and white.min() > 0.95
    ticks = [text.get_text() for text, _ in written(figure)]
    assert ticks == ["−1.00", "0", "+1.00"]
    assert "2 kernels of 1×3" in figure.alt and "-0.50 (blue) to 1.00 (red)" in figure.alt


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_none_are_not_drawn(bad):
    weights = torch.zeros(2, 1, 2, 2)
    weights[1, 0, 0, 1] = bad
    for draw in (plots.filters, plots.image_grid, lambda maps: plots.feature_maps(torch.zeros(4, 4), {"a": maps[1]})):
        with pytest.raises(ValueError, match=r"only finite numbers can be drawn, and 1 of [48] are nan or infinite"):
            draw(weights)


def test_filters_of_three_channels_are_pictures():
    weights = torch.zeros(2, 3, 2, 2)
    weights[0, 0, 0, 0], weights[0, 2, 1, 1], weights[1] = -1, 3, 7
    first, flat = pictures(plots.filters(weights.requires_grad_()))
    expected = np.full((2, 2, 3), 0.25)
    expected[0, 0, 0], expected[1, 1, 2] = 0, 1
    np.testing.assert_allclose(first, expected)
    assert np.isfinite(flat).all()


def test_filters_fill_rows_and_zeros_are_white():
    figure = plots.filters(torch.zeros(11, 1, 3, 3), columns=4)
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(images) == 11 and images[0].to_rgba(np.zeros(1))[0, :3].min() > 0.95
    assert {(s.rowspan.start, s.colspan.start) for s in (i.axes.get_subplotspec() for i in images)} == {
        divmod(i, 4) for i in range(11)
    }


def test_deeper_layers_have_no_pictures():
    for size in ((6, 64, 3, 3), (6, 3, 3), (0, 1, 3, 3)):
        with pytest.raises(
            ValueError, match=rf"weights must have the shape .* got {re.escape(str(size))}: .*weights\[:, :1\]"
        ):
            plots.filters(torch.zeros(size))
    plots.filters(torch.zeros(6, 64, 3, 3)[:, :1])


def test_feature_maps_of_a_stage_share_one_scale():
    image = torch.arange(16.0).reshape(4, 4)
    maps = {
        "conv": torch.tensor([-2.0, 0, 1, 2]).reshape(2, 1, 2).requires_grad_(),
        "negative": torch.tensor([-3.0, -1, -2, 0]).reshape(1, 2, 2).bfloat16(),
        "constant": torch.full((1, 1, 1), 0.5),
        "dead": torch.zeros(3, 1, 1),
    }
    figure = plots.feature_maps(image.to(torch.uint8), maps, columns=2)
    first, *rest = [axes.images[0] for axes in figure.axes if axes.images]
    np.testing.assert_allclose(first.get_array(), image / 15)
    stages = [rest[:2], rest[2:3], rest[3:4], rest[4:]]
    for shown, (name, values) in zip(stages, maps.items(), strict=True):
        values = values.detach().float().numpy()
        for i, picture in enumerate(shown):
            assert np.asarray(picture.get_array()).tolist() == values[i].tolist()
        low, high = shown[0].get_clim()
        assert all(picture.get_clim() == (low, high) for picture in shown)
        assert low == values.min() and (high == values.max() if name in ("conv", "negative") else True)
        black, white = (shown[0].to_rgba(np.array([v]))[0, :3].mean() for v in (values.min(), high))
        assert black == 0 and white == 1
    words = [text.get_text() for text, _ in written(figure)]
    assert words == ["conv: 2 maps of 1×2", "negative: 1 map of 2×2", "constant: 1 map of 1×1", "dead: 3 maps of 1×1"]
    assert "2 maps of 1×2 in conv" in figure.alt


def test_feature_maps_that_cannot_be_drawn_are_refused():
    good = {"conv": torch.zeros(2, 3, 3)}
    for size in ((1, 1, 8, 8), (2, 8, 8), (8,)):
        with pytest.raises(ValueError, match=rf"^image must have the shape .* got {re.escape(str(size))}$"):
            plots.feature_maps(torch.zeros(size), good)
    for size in ((1, 2, 3, 3), (3, 3), (0, 3, 3)):
        with pytest.raises(ValueError, match=rf"^conv 2: its maps must have .* got {re.escape(str(size))}$"):
            plots.feature_maps(torch.zeros(8, 8), {**good, "conv 2": torch.zeros(size)})
    with pytest.raises(ValueError, match=r"^maps must be a dict of names and maps, .* got a list$"):
        plots.feature_maps(torch.zeros(8, 8), [torch.zeros(2, 3, 3)])
    with pytest.raises(ValueError, match="maps must hold the maps of at least one stage, got none"):
        plots.feature_maps(torch.zeros(8, 8), {})


# --- what it confuses -------------------------------------------------------------------------------------------------


def cells(figure):
    """The axes of the table, and by (row, column) the text there."""
    (axes,) = [axes for axes in figure.axes if axes.get_xlabel() == "the network says"]
    texts = [text for text in axes.texts if not isinstance(text, Annotation)]
    return axes, {tuple(map(int, text.get_position()))[::-1]: text for text in texts}


def test_a_cell_says_how_many_of_100():
    labels, predictions = mistaken()
    axes, found = cells(figure := plots.confusion(labels, predictions, CLASSES))
    pairs = list(zip(labels.tolist(), predictions.tolist(), strict=True))
    expected = {}
    for i, j in itertools.product(range(10), repeat=2):
        if pairs.count((i, j)):
            share = 100 * pairs.count((i, j)) / sum(label == i for label, _ in pairs)
            expected[i, j] = f"{round(share)}" if share >= 0.5 else "·"
    assert {place: text.get_text() for place, text in found.items()} == expected
    assert "·" in expected.values() and 9 not in {i for i, _ in expected}, "a rare one, and a class without images"
    assert [t.get_text() for t in axes.get_yticklabels()] == [t.get_text() for t in axes.get_xticklabels()] == CLASSES
    assert axes.get_ylabel() == "it is" and axes.yaxis_inverted(), "the first class is the first row"
    right = sum(i == j for i, j in pairs) / len(pairs)
    assert figure.alt.startswith(f"{right:.1%} are right. ")


def test_a_cells_text_can_be_read_on_its_colour():
    """Against the pixels that are drawn, for shares from 1 to 100: right ones on the diagonal, wrong ones beside it."""
    labels, predictions = [], []
    for i in range(10):
        share = (2, 8, 14, 17, 20, 24, 28, 36, 70, 99)[i]
        labels += [i] * 100
        predictions += [(i + 1) % 10] * share + [i] * (100 - share)
    figure = plots.confusion(labels, predictions, CLASSES)
    axes, found = cells(figure)
    assert len(found) == 20
    figure.savefig(io.BytesIO(), format="raw", dpi="figure")
    pixels = np.asarray(figure.canvas.buffer_rgba())[::-1, :, :3] / 255
    backgrounds = set()
    for (row, column), text in found.items():
        x, y = axes.transData.transform((column - 0.4, row - 0.4))
        background = pixels[int(y), int(x)]
        backgrounds.add(to_hex(background))
        assert contrast(text.get_color(), background) >= 4.5, (text.get_text(), to_hex(background))
    assert len(backgrounds) > 15


def test_the_most_frequent_confusions_are_named_and_shown():
    """Image k has one bright pixel, the k-th: each picture can be traced to its image."""
    labels, predictions = mistaken()
    images = torch.zeros(650, 1, 26, 25)
    images.view(650, -1)[torch.arange(650), torch.arange(650)] = 1
    figure = plots.confusion(labels, predictions, CLASSES, images)
    pairs = list(zip(labels.tolist(), predictions.tolist(), strict=True))
    counts = {pair: pairs.count(pair) for pair in set(pairs) if pair[0] != pair[1]}
    told = re.findall(
        r"(\S+(?: \S+)?) is taken for (\S+(?: \S+)?) in (\d+) of 100\.", figure.alt.partition("right. ")[2]
    )
    named = [(CLASSES.index(i), CLASSES.index(j)) for i, j, _ in told]
    assert [counts[pair] for pair in named] == sorted(counts.values(), reverse=True)[:3]
    assert [round(100 * counts[i, j] / labels.tolist().count(i)) for i, j in named] == [int(n) for *_, n in told]

    words = [text.get_text() for text, _ in written(figure) if "taken for" in text.get_text()]
    assert words == [f"{CLASSES[i]}, taken for\n{CLASSES[j]}: {counts[i, j]} times" for i, j in named]
    shown = [int(picture.argmax()) for picture in pictures(figure) if picture.shape == (26, 25)]
    groups = [shown[:6], shown[6:12], shown[12:]]
    for pair, group in zip(named, groups, strict=True):
        assert len(group) == min(counts[pair], 6) == len(set(group)) and all(pairs[k] == pair for k in group)


def test_a_single_confusion_is_one_time():
    figure = plots.confusion([0, 1, 2], [0, 1, 1], ["a", "b", "c"], torch.zeros(3, 4, 4))
    assert figure.alt == "66.7% are right. c is taken for b in 100 of 100."
    assert "c, taken for\nb: 1 time" in [text.get_text() for text, _ in written(figure)]


def test_no_confusion_at_all():
    figure = plots.confusion(range(10), range(10), CLASSES, torch.zeros(10, 4, 4))
    assert figure.alt == "100.0% are right."
    assert {place: text.get_text() for place, text in cells(figure)[1].items()} == {(i, i): "100" for i in range(10)}
    assert figure.get_size_inches()[0] == plots.confusion(range(10), range(10), CLASSES).get_size_inches()[0]


@pytest.mark.parametrize(
    ("labels", "predictions", "images", "words"),
    [
        (torch.zeros(4), torch.zeros(4, 3), None, r"\(N,\) both, got \(4,\) and \(4, 3\)"),
        (torch.zeros(4, 1), torch.zeros(4, 1), None, r"\(N,\) both, got \(4, 1\)"),
        (torch.zeros(4), torch.zeros(5), None, r"\(N,\) both, got \(4,\) and \(5,\)"),
        ([], [], None, "labels must hold at least one image"),
        ([0, 3], [0, 1], None, "labels must be class numbers from 0 to 2, got 0 to 3"),
        ([0, 1], [-1, 1], None, "predictions must be class numbers from 0 to 2, got -1 to 1"),
        ([0, 1], [1, 1], torch.zeros(3, 4, 4), "images must be one a label: expected 2, got 3"),
        ([0, 1], [0, 1], torch.zeros(3, 4, 4), "images must be one a label: expected 2, got 3"),
        ([0, 1], [1, 1], torch.zeros(4, 4), r"images must have the shape .* got \(4, 4\)"),
    ],
)
def test_what_cannot_be_compared_is_refused(labels, predictions, images, words):
    with pytest.raises(ValueError, match=words):
        plots.confusion(labels, predictions, ["a", "b", "c"], images)


@pytest.mark.parametrize("wrong", [[0.7, 0.2], [math.nan, 1]])
def test_scores_are_no_class_numbers(wrong):
    for arguments in ((wrong, [0, 1]), ([0, 1], wrong)):
        with pytest.raises(ValueError, match=r"must be class numbers, 0, 1, 2 …, got .*take scores.argmax"):
            plots.confusion(*arguments, ["a", "b"])


def test_classes_are_names_not_their_number():
    with pytest.raises(ValueError, match=r"^classes must be a sequence such as a tuple or a list, got 10$"):
        plots.confusion([0, 1], [0, 1], 10)


# --- bars -------------------------------------------------------------------------------------------------------------


def test_bars_have_the_lengths_and_colours_of_their_layers():
    figure = drawn("bars")
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [value for _, _, value in LAYERS]
    assert [to_hex(bar.get_facecolor()).upper() for bar in axes.patches] == [
        {"conv": "#0072B2", "pool": "#56B4E9", "dense": "#E69F00", "other": "#8A9099"}[kind] for _, kind, _ in LAYERS
    ]
    boxes = {text.get_text(): box for text, box in written(figure)}
    ends = ["1,792  ·  0%", "0  ·  0%", "2,359,808  ·  2%", "102,764,544  ·  98%", "0  ·  0%"]
    assert [text.get_text() for text in axes.texts] == ends
    for bar, text, (layer, _, _) in zip(axes.patches, axes.texts, LAYERS, strict=True):
        middle = bar.get_window_extent()
        assert boxes[layer].y0 < (middle.y0 + middle.y1) / 2 < boxes[layer].y1, "the layer's name beside its bar"
        assert text.get_window_extent().x0 > middle.x1
    heights = [boxes[layer].y0 for layer, _, _ in LAYERS]
    assert heights == sorted(heights, reverse=True), "the first on top"
    assert axes.get_xlim()[0] == 0 and axes.get_xlabel() == "parameters"
    assert "105,126,144 parameters in 5 layers" in figure.alt and "conv 3×3, 512: 2,359,808, 2%" in figure.alt


def test_bars_of_nothing():
    figure = plots.layer_bars([("relu", "other", 0), ("pool", "pool", 0)], title="Parameters", unit="parameters")
    assert [text.get_text() for text in figure.axes[0].texts] == ["0", "0"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("fc", "linear", 3), "^fc: kind must be one of conv, pool, dense, other, got 'linear'$"),
        (("fc", "dense", -1), "^fc: its value must be a number of at least 0, got -1$"),
        (("fc", "dense", math.nan), "^fc: its value must be a number of at least 0, got nan$"),
        (("fc", "dense", math.inf), "^fc: its value must be a number of at least 0, got inf$"),
    ],
)
def test_bars_that_cannot_be_drawn_are_refused(row, words):
    with pytest.raises(ValueError, match=words):
        plots.layer_bars([("conv", "conv", 1), row], title="t", unit="u")
    with pytest.raises(ValueError, match="at least one layer to draw, got none"):
        plots.layer_bars([], title="t", unit="u")


def test_where_figures_cannot_be_saved(tmp_path):
    figure = FIGURES["bars"]()
    (tmp_path / "w.png").mkdir()
    with pytest.raises(ValueError, match=r"w\.png is a folder: take another"):
        plots.save(figure, tmp_path / "w")
    assert not (tmp_path / "w.svg").exists(), "neither, or both"
    for path in ("", None, 3, "/"):
        with pytest.raises(ValueError, match=r"^path must be the files' name without its ending"):
            plots.save(figure, path)
    with pytest.raises(ValueError, match=r"^figure must be a LessonFigure"):
        plots.save(str(tmp_path / "x"), figure)
    names = [file.name for file in plots.save(figure, tmp_path / "x.png")]
    assert names == ["x.svg", "x.png"] and sorted(file.name for file in tmp_path.iterdir()) == [
        "w.png",
        "x.png",
        "x.svg",
    ]


# --- files ------------------------------------------------------------------------------------------------------------


def test_save_writes_both_files_and_their_folder(tmp_path):
    figure = drawn("bars")
    files = plots.save(figure, tmp_path / "a new" / "folder" / "bars v1.2")
    assert [file.name for file in files] == ["bars v1.2.svg", "bars v1.2.png"]
    assert sorted(files) == sorted((tmp_path / "a new" / "folder").iterdir()), "and nothing else"
    content = files[1].read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    assert content[:8] == b"\x89PNG\r\n\x1a\n" and width == pytest.approx(200 * figure.get_size_inches()[0], abs=1)
    assert height == pytest.approx(200 * figure.get_size_inches()[1], abs=1)
    assert plots.save(figure, str(tmp_path / "text"))[0].exists()


def test_an_svg_has_the_figures_words(tmp_path):
    words = {"title": 'R&D: <b> "what" it’s about', "alt": '1 < 2 & 3 > 2, it\'s "so": Grüße ↓ ]]>'}
    figure = plots.layer_bars(LAYERS, title=words["title"], unit='<unit> & "more"')
    figure.alt = words["alt"]
    svg, png_file = plots.save(figure, tmp_path / "words")
    root = ElementTree.fromstring(svg.read_bytes())
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg" and root.get("role") == "img"
    assert [(child.tag, child.text) for child in root[:2]] == [
        (f"{space}title", words["title"]), (f"{space}desc", words["alt"]),
    ]  # fmt: skip
    assert len(root.findall(f"{space}title")) == len(root.findall(f"{space}desc")) == 1
    for file in (svg, png_file):
        content = file.read_bytes()
        assert b"dc:date" not in content and b"tIME" not in content and b"Matplotlib v" not in content
        assert not re.search(rb"\b20[2-9]\d-\d\d-\d\d", content), "no date"


@pytest.mark.parametrize("fails", ["the svg", "the png", "writing", "replacing"])
def test_a_save_that_fails_leaves_no_half_file(tmp_path, monkeypatch, fails):
    old = {name: f"old {name}".encode() for name in ("bars.svg", "bars.png")}
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)
    figure, write, move, calls = drawn("bars"), Path.write_bytes, os.replace, []

    def full(*_, **__):
        raise OSError("No space left on device")

    def half(file, content):
        calls.append(write(file, content[:9]))
        return full() if len(calls) == 2 else write(file, content)

    def once(*names):
        return full() if calls else calls.append(move(*names))

    match fails:
        case "the svg":
            monkeypatch.setattr("matplotlib.backends.backend_svg.FigureCanvasSVG.print_svg", full)
        case "the png":
            monkeypatch.setattr(FigureCanvasAgg, "print_png", full)
        case "writing":
            monkeypatch.setattr(Path, "write_bytes", half)
        case "replacing":
            monkeypatch.setattr(os, "replace", once)
    with pytest.raises(OSError, match="No space left"):
        plots.save(figure, tmp_path / "bars")
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    if fails == "replacing":  # the first was whole already
        assert ElementTree.fromstring(found.pop("bars.svg")) is not None and old.pop("bars.svg")
    assert found == old


PROCESS = """
import json, sys
import utils
print(*sys.modules)
from utils import plots
from utils.plots.style import compact
print(*sys.modules)
from utils.results import Point
points = [Point(**values) for values in json.loads(sys.argv[2])]
plots.save(plots.throughput_accuracy(points), sys.argv[1] + "/curve")
"""


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    """Another one, which imports, draws and saves: its folder, and the modules it had after each import."""
    folder = tmp_path_factory.mktemp("process")
    command = [sys.executable, "-c", PROCESS, str(folder), json.dumps([vars(p) for p in [*EIGHT, YOURS]])]
    seed = {"PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"}
    done = subprocess.run(command, cwd=ROOT, env=os.environ | seed, text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return folder, [set(line.split()) for line in done.stdout.splitlines()]


def test_another_process_writes_the_same_bytes(process, tmp_path):
    files = plots.save(plots.throughput_accuracy([*EIGHT, YOURS]), tmp_path / "curve")
    assert [file.read_bytes() for file in files] == [(process[0] / file.name).read_bytes() for file in files]


def test_an_import_brings_no_more_than_it_needs(process):
    after_utils, after_plots = process[1]
    assert "utils" in after_utils and not {"matplotlib", "torch", "numpy"} & after_utils
    assert "matplotlib" in after_plots and not {"torch", "matplotlib.pyplot", "IPython", "ipywidgets"} & after_plots


def test_a_shown_figure_is_saved_like_a_new_one(tmp_path):
    shown = FIGURES["bars"]()
    shown._repr_mimebundle_()
    one, other = plots.save(shown, tmp_path / "shown"), plots.save(FIGURES["bars"](), tmp_path / "new")
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in other]


def test_a_shown_figure_takes_a_fraction_of_the_bytes_and_looks_the_same():
    figure = curve([*EIGHT, YOURS])
    whole = io.BytesIO()
    figure.savefig(whole, format="png", dpi=144)
    shown = base64.b64decode(figure._repr_mimebundle_()[0]["image/png"])
    assert len(shown) < 0.5 * len(whole.getvalue())
    before, after = (np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), int) for png in (whole.getvalue(), shown))
    off = np.abs(before - after).max(-1)
    assert off.mean() < 0.5 and (off > 32).mean() < 0.002


def test_a_photograph_keeps_all_of_its_colours():
    photograph = np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8)
    png = io.BytesIO()
    Image.fromarray(photograph).save(png, format="png")
    assert np.asarray(Image.open(io.BytesIO(compact(png.getvalue())))).tolist() == photograph.tolist()


def test_the_note_says_how_the_networks_were_trained():
    assert "1 seed, 2 epochs a network." in notes(curve([point(epochs=2)]))
    several = [point("a", epochs=1), point("b", epochs=5), point("c")]
    figure = curve(several, reference=[point("d", epochs=3, seeds=4, measured_on=GPU)])
    assert "1 seed, 1 to 5 epochs a network." in notes(figure)
    assert f"Hollow: the reference, 4 seeds, 3 epochs a network, on {GPU}." in notes(figure).replace("\n", " ")
    assert "Upright" not in notes(figure), "no interval is drawn"
    assert "Upright" in notes(curve([point("a")], reference=EIGHT)), "the reference has some"


def test_the_axis_says_which_images_the_accuracy_is_of():
    figure = curve([point(evaluated_on="validation")])
    assert figure.axes[0].get_ylabel() == "validation accuracy, %" and figure.alt.startswith("Validation accuracy ag")


@pytest.mark.parametrize(
    "other",
    [
        {"points": [point("a"), point("b", evaluated_on="validation")]},
        {"points": [point("a")], "reference": [point("b", evaluated_on="validation")]},
    ],
)
def test_validation_accuracies_are_not_drawn_beside_test_accuracies(other):
    with pytest.raises(ValueError, match="on the same images, got some on test and some on validation images"):
        plots.throughput_accuracy(**other)


def test_an_interval_is_seen_before_its_marker():
    figure = curve([spanned("a", "VGG", 1000, 0.9, 0.0005, 10**6), point("b")])
    (interval,) = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    assert interval.get_zorder() > max(marker.get_zorder() for marker in markers(figure).values())


def test_long_titles_get_fewer_columns():
    def spans(titles, **options):
        figure = plots.image_grid(np.zeros((len(titles), 4, 4)), titles, **options)
        figure.draw_without_rendering()
        rows = {}
        for text in (text for axes in figure.axes for text in axes.texts):
            box = text.get_window_extent()
            rows.setdefault(text.axes.get_subplotspec().rowspan.start, []).append((box.x0, box.x1))
            assert text.get_size() >= 12
        return [sorted(row) for row in rows.values()]

    for titles in (CLASSES * 2, ["Ankle boot, taken for a sneaker"] * 7, ["7"] * 10, ["", "", ""]):
        for row in spans(titles, columns=10):
            assert all(end < start for (_, end), (start, _) in itertools.pairwise(row)), titles
    assert len(spans(["7"] * 10, columns=10)) == 1 and len(spans(CLASSES, columns=10)) == 2


def test_longer_titles_are_wrapped_and_nothing_is_blown_up():
    titles = ["a title that is far longer than the page is wide " * 3, "short", "one-word" * 20, "", "b", "c"]
    figure = plots.image_grid(np.zeros((6, 4, 4)), titles)
    figure.draw_without_rendering()
    height = figure.get_figheight()
    assert height < 14, "two rows of four columns"
    boxes = [(text.axes, text.get_window_extent()) for axes in figure.axes for text in axes.texts if text.get_text()]
    for axes, box in boxes:
        assert box.y0 >= -1 and box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1
        assert axes.images[0].get_window_extent().width <= 9 / 4 * figure.dpi
    for (_, a), (_, b) in itertools.combinations(boxes, 2):
        assert not a.overlaps(b)
    for axes in figure.axes:
        if axes.images:
            assert not any(axes.images[0].get_window_extent().overlaps(box) for _, box in boxes)
    assert titles[0] in figure.alt, "as it was given"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"evaluated_on": None}, "VGG (1,1): evaluated_on must be one of 'test', 'validation', got None"),
        ({"evaluated_on": ""}, "VGG (1,1): evaluated_on must be one of 'test', 'validation', got ''"),
        ({"epochs": "5"}, "VGG (1,1): epochs must be a whole number of at least 1, got '5'"),
        ({"seeds": 0}, "VGG (1,1): seeds must be a whole number of at least 1, got 0"),
    ],
)
def test_how_it_was_trained_must_make_sense(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        plots.throughput_accuracy([point(**wrong), point("b", epochs=3)])
