"""utils/plots/drawing.py and the bands of utils/plots/curves.py: what is drawn, worked out here by hand."""

import itertools
import math
import random
import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from utils import plots
from utils.architectures import (
    ALEXNET,
    LENET,
    LENET_BOOK,
    PRESETS,
    VGG,
    Architecture,
    Block,
    Conv,
    Head,
    Pool,
    vgg_like,
)  # fmt: skip
from utils.models import build
from utils.plots.drawing import parameters_of
from utils.training import History

FAMILY = [LENET, ALEXNET, *VGG.values()]
COLOUR = {"image": "#dde0e4", "conv": "#0072b2", "pool": "#56b4e9", "average": "#56b4e9", "dense": "#e69f00"}


def drawn(figure):
    """The layers of each network, in order: {network: [(what, left, width, height)]}."""
    found = {}
    for patch in figure.axes[0].patches:
        name, what = patch.get_gid().rsplit(": ", 1)
        found.setdefault(name, []).append((what, patch.get_x(), patch.get_width(), patch.get_height()))
    return found


def texts(figure, gid):
    return [text.get_text() for text in figure.axes[0].texts if text.get_gid() == gid]


def boxes(figure):
    """The rectangle that each text takes, in pixels."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    return [(t, t.get_window_extent(renderer)) for t in figure.axes[0].texts if t.get_text()]


def a_network(rng):
    """A random architecture that can be built: strides, groups, odd poolings, heads of all kinds."""
    while True:
        blocks = tuple(
            Block(
                tuple(
                    Conv(rng.choice((1, 8, 96, 1000)), k, stride=s, padding=k // 2)
                    for k, s in (
                        (rng.choice((1, 3, 5, 11)), rng.choice((1, 1, 1, 2))) for _ in range(rng.randint(1, 6))
                    )
                ),
                rng.choice((None, Pool(), Pool("avg"), Pool("max", 3, 2))),
            )
            for _ in range(rng.randint(1, 5))
        )
        hidden = tuple(rng.choice((1, 10, 4096)) for _ in range(rng.randint(0, 3)))
        head = Head(hidden=hidden, pool_size=rng.choice((None, 1, 2)))
        try:
            return Architecture(blocks, head, image_size=rng.choice((28, 64, 224)), num_classes=rng.choice((2, 1000)))
        except ValueError:  # nothing is left of the image
            continue


RANDOM = [a_network(random.Random(seed)) for seed in range(25)]


# --- an architecture --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", [p.architecture for p in PRESETS] + RANDOM, ids=lambda a: a.label[:30])
def test_parameters_are_those_of_the_network(architecture):
    net = build(architecture, device="meta")
    assert parameters_of(architecture) == sum(p.numel() for p in net.parameters())


def test_lenet_is_drawn_as_one_works_it_out_on_paper():
    figure = plots.architecture_blocks({"mine": LENET_BOOK})
    layers = drawn(figure)["mine"]
    assert [what for what, *_ in layers] == [
        "image", "conv 1.1", "pool 1", "conv 2.1", "pool 2", "dense 1", "dense 2", "dense 3",
    ]  # fmt: skip
    heights = [height for *_, height in layers]
    sides = [28, 28, 14, 10, 5]
    assert heights[:5] == pytest.approx([heights[0] * math.sqrt(side / 28) for side in sides])
    assert heights[5:] == pytest.approx([heights[5] * math.sqrt(units / 120) for units in (120, 84, 10)])
    widths = [width for _, _, width, _ in layers]
    assert widths[1] == widths[2] and widths[3] / widths[1] == pytest.approx(math.sqrt(16 / 6))
    assert texts(figure, "mine: above") == ["1", "6", "16", "120", "84", "10"]
    assert texts(figure, "mine: below") == ["image", "28²", "5×5", "28²", "5×5", "10²", "dense", ""]
    assert texts(figure, "name: mine") == ["mine"]
    assert texts(figure, "size: mine") == ["5 weight layers, 61,706 parameters"]


def test_each_layer_has_its_colour_and_stands_on_its_rows_line_in_order():
    figure = plots.architecture_blocks(FAMILY)
    for patch in figure.axes[0].patches:
        what = patch.get_gid().rsplit(": ", 1)[1]
        assert isinstance(patch, Rectangle) and to_hex(patch.get_facecolor()) == COLOUR[what.split()[0]], what
    for layers in drawn(figure).values():
        for (_, left, width, _), (_, following, *_) in itertools.pairwise(layers):
            assert left + width < following, "one after the other, with a gap"
    for name in drawn(figure):
        assert len({p.get_y() for p in figure.axes[0].patches if p.get_gid().startswith(f"{name}: ")}) == 1


def test_all_networks_share_one_scale():
    """VGG-16 (D) is drawn the same beside LeNet as VGG-11 is, and LeNet is small beside them."""
    layers = drawn(plots.architecture_blocks(FAMILY))
    size = {(name, what): (width, height) for name, row in layers.items() for what, _, width, height in row}
    assert size["VGG-11 (A)", "conv 1.1"] == pytest.approx(size["VGG-16 (D)", "conv 1.1"])
    image, other = size["LeNet", "image"][1], size["VGG-16 (D)", "image"][1]
    assert image / other == pytest.approx(math.sqrt(28 / 224))
    assert size["VGG-19 (E)", "conv 5.4"][1] / other == pytest.approx(math.sqrt(14 / 224))
    assert size["VGG-19 (E)", "conv 5.4"][0] / size["VGG-19 (E)", "conv 1.1"][0] == pytest.approx(math.sqrt(512 / 64))


def test_a_block_has_one_bracket_as_wide_as_what_is_in_it():
    figure = plots.architecture_blocks([VGG["D"]])
    lines = [line for line in figure.axes[0].lines if line.get_gid() == "VGG-16 (D): bracket"]
    assert len(lines) == 1 + 5 + 1, "the image, five blocks, the head"
    layers = drawn(figure)["VGG-16 (D)"]
    third = [(left, left + width) for what, left, width, _ in layers if what.startswith(("conv 3.", "pool 3"))]
    low, high = lines[3].get_xdata()
    assert len(third) == 4 and low <= third[0][0] and third[-1][1] <= high
    assert texts(figure, "VGG-16 (D): below")[6:8] == ["3 × 3×3", "56²"]


def test_channels_that_change_within_a_block_have_a_label_each_and_kernels_are_named():
    figure = plots.architecture_blocks([ALEXNET, VGG["C"]])
    assert texts(figure, "AlexNet: above") == ["3", "64", "192", "384", "256", "4096", "4096", "1000"]
    assert texts(figure, "AlexNet: below")[2:8] == ["11×11", "55²", "5×5", "27²", "3 × 3×3", "13²"]
    assert texts(figure, "VGG-16 (C): below")[6] == "2 × 3×3, 1×1"


def test_a_pooled_head_is_drawn_where_it_does_anything():
    pooled = vgg_like((1,), (8,), head=Head(hidden=(), pool_size=1))
    figure = plots.architecture_blocks({"pooled": pooled, "not": pooled.change(head=Head(pool_size=14))})
    layers = drawn(figure)
    assert [what for what, *_ in layers["pooled"]] == ["image", "conv 1.1", "pool 1", "average pool", "dense 1"]
    assert [what for what, *_ in layers["not"]] == ["image", "conv 1.1", "pool 1", "dense 1"]
    assert "average to 1², dense" in texts(figure, "pooled: below")


@pytest.mark.parametrize(
    "networks",
    [FAMILY, [LENET], [VGG["E"]], [vgg_like((20, 20), (1, 4096))], *([a] for a in RANDOM), RANDOM[:6]],
    ids=lambda networks: networks[0].label[:30],
)
def test_no_text_is_cut_off_or_stands_on_another_or_on_a_layer(networks):
    figure = plots.architecture_blocks({f"{i}": network for i, network in enumerate(networks)})
    found = boxes(figure)
    for (one, a), (other, b) in itertools.combinations(found, 2):
        assert not a.overlaps(b), (one.get_text(), other.get_text())
    layers = [patch.get_window_extent() for patch in figure.axes[0].patches]
    for text, box in found:
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text.get_text()
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text.get_text()
        assert text.get_size() >= 12 and not any(box.overlaps(layer) for layer in layers), text.get_text()
    for layer in layers:
        assert figure.bbox.x0 <= layer.x0 and layer.x1 <= figure.bbox.x1


def test_the_drawing_in_words():
    assert plots.architecture_blocks([LENET]).alt == (
        "LeNet: 5 weight layers, 61,706 parameters. 28×28 image; 5×5 with 6 channels on 28², pooled to 14²; 5×5 with "
        "16 channels on 10², pooled to 5²; dense 120, 84 and 10."
    )


def test_the_drawing_can_be_saved(tmp_path):
    svg, png = plots.save(plots.architecture_blocks([LENET, VGG["A"]]), tmp_path / "drawn")
    assert svg.read_text(encoding="utf-8").count("LeNet: conv") == 2 + 0 and png.stat().st_size > 5000


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        ([], "at least one"),
        ({}, "at least one"),
        (LENET, r"take \[LENET\] for one alone"),
        ({"a": "LENET"}, r"architectures\['a'\] must be an Architecture"),
    ],
)
def test_what_cannot_be_drawn_is_refused(networks, message):
    with pytest.raises(ValueError, match=message):
        plots.architecture_blocks(networks)


# --- seeds as a band --------------------------------------------------------------------------------------------------


def a_history(losses, accuracies, seed=0):
    """A run of five steps an epoch."""
    epochs = [
        {"epoch": i, "validation_loss": 2 - accuracy, "validation_accuracy": accuracy}
        for i, accuracy in enumerate(accuracies, start=1)
    ]
    return History({}, seed, "cpu", "float32", len(losses), 5, list(losses), epochs)


SEEDS = [a_history(np.linspace(2.0, end, 10), (first, last), seed)
         for seed, (end, first, last) in enumerate([(0.4, 0.5, 0.7), (0.6, 0.6, 0.9), (0.8, 0.7, 0.8)])]  # fmt: skip


def by_gid(axes, gid):
    (found,) = (artist for artist in axes.get_children() if artist.get_gid() == gid)
    return found


def ends_of_band(band):
    """Lowest and highest of a band at each place: {x: (low, high)}."""
    heights = {}
    for x, y in band.get_paths()[0].vertices:
        heights.setdefault(round(float(x), 6), []).append(float(y))
    return {x: (min(ys), max(ys)) for x, ys in heights.items()}


def test_the_line_is_the_mean_of_the_seeds_and_the_band_reaches_from_the_lowest_to_the_highest():
    left, right = plots.learning_curves({"arm": SEEDS}).axes
    losses = np.array([history.losses for history in SEEDS])  # too few steps to be smoothed
    line = by_gid(left, "loss: arm")
    assert line.get_xdata() == pytest.approx(np.arange(1, 11) / 5) and line.get_ydata() == pytest.approx(losses.mean(0))
    band = ends_of_band(by_gid(left, "loss band: arm"))
    for i, x in enumerate(np.arange(1, 11) / 5):
        assert band[round(float(x), 6)] == pytest.approx((losses[:, i].min(), losses[:, i].max()))
    assert by_gid(right, "accuracy: arm").get_ydata() == pytest.approx([60.0, 80.0])
    band = ends_of_band(by_gid(right, "accuracy band: arm"))
    assert band[1.0] == pytest.approx((50.0, 70.0)) and band[2.0] == pytest.approx((70.0, 90.0))
    segments = by_gid(left, "validation loss: arm").get_segments()
    assert [sorted(y for _, y in segment) for segment in segments] == [
        pytest.approx([1.3, 1.5]), pytest.approx([1.1, 1.3]),
    ]  # fmt: skip


def test_a_band_has_its_lines_colour_and_is_see_through():
    left, _ = plots.learning_curves({"one": SEEDS, "other": SEEDS}).axes
    for name in ("one", "other"):
        band, line = by_gid(left, f"loss band: {name}"), by_gid(left, f"loss: {name}")
        assert to_hex(band.get_facecolor()[0]) == to_hex(line.get_color()) and band.get_alpha() < 0.3
    assert to_hex(by_gid(left, "loss: one").get_color()) != to_hex(by_gid(left, "loss: other").get_color())


def test_one_run_has_no_band_and_says_nothing_of_seeds():
    for histories in ({"a": SEEDS[0]}, {"a": SEEDS[:1]}):
        figure = plots.learning_curves(histories)
        assert not [
            artist for axes in figure.axes for artist in axes.get_children() if "band" in (artist.get_gid() or "")
        ]
        words = " ".join(text.get_text() for axes in figure.axes for text in axes.texts)
        assert "seeds" not in words + figure.alt


def test_the_picture_says_how_many_seeds_the_band_is_of():
    three = plots.learning_curves({"a": SEEDS})
    words = [text.get_text() for axes in three.axes for text in axes.texts]
    assert "line: training, marker: validation\nmean of 3 seeds, band: lowest to highest" in words
    assert "on the validation images\nmean of 3 seeds, band: lowest to highest" in words
    assert "the mean of 3 seeds; the last accuracy lies between 70.0% and 90.0%." in three.alt
    assert "validation accuracy 60.0% and 80.0%" in three.alt
    both = plots.learning_curves({"a": SEEDS, "b": SEEDS[:2]})
    assert any("mean of 2 to 3 seeds" in text.get_text() for text in both.axes[0].texts)


def test_names_stand_at_the_ends_and_titles_are_not_cut_off():
    figure = plots.learning_curves({"first": SEEDS, "second": SEEDS[:2], "third": SEEDS[0]})
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    for axes in figure.axes:
        words = [t for t in [*axes.texts, axes.title, axes._left_title] if t.get_text()]
        for text in words:
            box = text.get_window_extent(renderer)
            assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, text.get_text()
        assert {"first", "second", "third"} <= {t.get_text() for t in axes.texts}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"losses": SEEDS[0].losses[:9]}, "the same steps, got 10 and 9"),
        ({"steps_per_epoch": 4}, "the same steps an epoch, got 5 and 4"),
        ({"epochs": SEEDS[0].epochs[:1]}, "the same epochs with validation, got 2 and 1"),
    ],
)
def test_runs_that_differ_are_no_band(change, what):
    with pytest.raises(ValueError, match=re.escape(f"arm: runs that are drawn as one band must have {what}")):
        plots.learning_curves({"arm": [SEEDS[0], replace(SEEDS[0], **change)]})


def test_an_arm_without_a_run_is_refused():
    with pytest.raises(ValueError, match="arm: there must be at least one history"):
        plots.learning_curves({"arm": []})
