"""utils/plots/drawing: rectangles, brackets and texts of the drawn architectures, held against torch's own layers; and
of utils/plots/pictures, what tests/test_plots.py leaves open."""

import io
import itertools
import math
import random
import re
from functools import cache
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from torch import nn

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
)
from utils.models import build
from utils.plots.drawing import parameters_of

pytestmark = pytest.mark.filterwarnings("error")  # a glyph that the font lacks

COLOURS = {"image": "#DDE0E4", "conv": "#0072B2", "pool": "#56B4E9", "dense": "#E69F00"}
HAIRLINE = 0.012  # inches
HISTORY = {"LeNet": LENET, "AlexNet": ALEXNET, **{f"VGG {name}": architecture for name, architecture in VGG.items()}}


def random_architecture(r):
    """A valid one, of anything that there is: proposed until one can be built."""
    while True:
        try:
            return Architecture(
                tuple(random_block(r) for _ in range(r.choice((1, 1, 2, 3, 5)))),
                Head(tuple(r.choice((1, 10, 4096)) for _ in range(r.randrange(4))), pool_size=r.choice((None, 1, 2))),
                norm=r.choice(("none", "batch", "lrn")),
                in_channels=r.choice((1, 3)),
                image_size=r.choice((1, 7, 28, 224)),
                num_classes=r.choice((1, 10, 1000)),
            )
        except ValueError:  # no valid one: another is proposed
            continue


def random_block(r):
    pool = r.choice((None, Pool(), Pool("avg", 3, 1)))
    kernel, stride = r.choice((1, 2, 3, 5, 11)), r.choice((1, 1, 2, 4))
    conv = Conv(r.choice((1, 6, 64, 512, 4096)), kernel, stride, padding=r.randrange(4))
    grouped = Conv(12, 3, groups=r.choice((1, 1, 3)), norm=r.choice((None, "batch")))
    convs = r.choice(((conv,), (conv, Conv(7, 1)), (conv, *[Conv(64)] * r.randrange(20)), (Conv(12, 1), grouped)))
    return Block(convs, pool)


ODD = {
    "one pixel": {"": Architecture((Block((Conv(1, 1),), None),), image_size=1, num_classes=1)},
    "twenty convolutions a block": {"deep": vgg_like((20, 20), (64, 4096))},
    "all kernels and widths": {
        "wild": Architecture(
            (Block(tuple(Conv(1 + 4095 * (i % 2), 1 + 2 * (i % 3)) for i in range(12))),), Head((4096, 1, 17))
        )
    },
    "more blocks than a page has room for": {"long": vgg_like((2,) * 9, (8,) * 9, image_size=512)},
    "global average pooling": {"pooled": vgg_like((3, 3), (16, 32), head=Head(pool_size=1))},
    "a long name": {"VGG with a name that goes on " * 9 + "to its end": LENET, "short": LENET},
    "line breaks": {"two\nlines": LENET, 3: LENET_BOOK},
}
RANDOM = {
    f"random {seed}": {f"network {i}": random_architecture(random.Random(10 * seed + i)) for i in range(1 + seed % 3)}
    for seed in range(18)
}
DRAWINGS = {"from LeNet to VGG": HISTORY, **{p.name: {p.name: p.architecture} for p in PRESETS}, **ODD, **RANDOM}
every_drawing = pytest.mark.parametrize("name", DRAWINGS)


@cache
def drawn(name):
    """One of DRAWINGS, and all that is on it."""
    figure = plots.architecture_blocks(DRAWINGS[name], title=name)
    figure.draw_without_rendering()
    return figure


def rectangles(figure, network):
    """(kind, rectangle) of each layer of a network, from left to right."""
    kinds = {"image": "image", "conv": "conv", "pool": "pool", "average": "pool", "dense": "dense"}
    found = [
        (kinds[patch.get_gid().removeprefix(f"{network}: ").split()[0]], patch)
        for patch in figure.axes[0].patches
        if patch.get_gid().startswith(f"{network}: ")
    ]
    return sorted(found, key=lambda item: item[1].get_x())


def texts(figure, network):
    """By what follows the network's name in its name: a text's words."""
    return {
        text.get_gid().removeprefix(f"{network}: "): text.get_text()
        for text in figure.axes[0].texts
        if text.get_gid().startswith(f"{network}: ")
    }


def brackets(figure, network):
    """By the group's name: where a line under a group of layers starts and ends."""
    return {
        line.get_gid().removeprefix(f"{network}: bracket of "): tuple(line.get_xdata())
        for line in figure.axes[0].lines
        if line.get_gid().startswith(f"{network}: ")
    }


@cache
def network_of(architecture):
    return build(architecture, device="meta").eval()


@cache
def layers_of(architecture):
    """(kind, side or units, channels) of the image and of each layer that torch runs, in its order."""
    net, found = network_of(architecture), [("image", architecture.image_size, architecture.in_channels)]

    def note(layer, inputs, output):
        match layer:
            case nn.Conv2d():
                found.append(("conv", output.shape[-1], output.shape[1]))
            case nn.MaxPool2d() | nn.AvgPool2d():
                found.append(("pool", output.shape[-1], output.shape[1]))
            case nn.AdaptiveAvgPool2d() if inputs[0].shape != output.shape:
                found.append(("pool", output.shape[-1], output.shape[1]))
            case nn.Linear():
                found.append(("dense", output.shape[-1], 1))

    hooks = [layer.register_forward_hook(note) for layer in net.modules()]
    net(torch.zeros(1, *architecture.input_shape, device="meta"))
    for hook in hooks:
        hook.remove()
    return found


def heading(name):
    return " ".join(f"{name}".split())


# --- layers -----------------------------------------------------------------------------------------------------------


@every_drawing
def test_every_layer_that_torch_runs_is_drawn_to_scale_in_its_colour(name):
    figure, networks = drawn(name), DRAWINGS[name]
    layers, patches = [], []
    for network, architecture in networks.items():
        found, expected = rectangles(figure, heading(network)), layers_of(architecture)
        assert [kind for kind, _ in found] == [kind for kind, *_ in expected]
        layers += expected
        patches += [patch for _, patch in found]
    assert len(patches) == len(figure.axes[0].patches), "and nothing else"
    assert all(to_hex(p.get_facecolor()).upper() == COLOURS[k] for p, (k, *_) in zip(patches, layers, strict=True))

    tallest, widest = max(patch.get_height() for patch in patches), {}
    for is_dense in (False, True):
        pairs = [(p, size, n) for p, (k, size, n) in zip(patches, layers, strict=True) if (k == "dense") == is_dense]
        largest, most = max(size for _, size, _ in pairs), max(channels for *_, channels in pairs)
        widest[is_dense] = max(patch.get_width() for patch, *_ in pairs)
        for patch, size, channels in pairs:
            assert patch.get_height() == pytest.approx(max(tallest * math.sqrt(size / largest), HAIRLINE))
            assert patch.get_width() == pytest.approx(max(widest[is_dense] * math.sqrt(channels / most), HAIRLINE))
    assert tallest >= 0.6 and widest[True] == pytest.approx(0.11) and widest[False] > 2 * HAIRLINE
    note = next(text.get_text() for text in figure.axes[0].texts if text.get_gid() == "note")
    assert "square roots" in note and ("One scale for all." in note) == (len(networks) > 1)
    smallest = min(min(patch.get_width(), patch.get_height()) for patch in patches)
    assert ("Hairlines" in note) == (smallest == HAIRLINE)


@every_drawing
def test_layers_of_a_row_stand_on_one_line_side_by_side(name):
    figure = drawn(name)
    baselines = []
    for network in map(heading, DRAWINGS[name]):
        patches = [patch for _, patch in rectangles(figure, network)]
        assert len({patch.get_y() for patch in patches}) == 1
        baselines.append(patches[0].get_y())
        for one, other in itertools.pairwise(patches):
            assert one.get_x() + one.get_width() + 0.03 < other.get_x()
    assert baselines == sorted(set(baselines), reverse=True), "the first network on top"


@every_drawing
def test_a_bracket_holds_its_block_and_no_other(name):
    figure = drawn(name)
    for network, architecture in DRAWINGS[name].items():
        network = heading(network)
        found, patches = brackets(figure, network), rectangles(figure, network)
        numbers = [1, *(len(block.convs) + (block.pool is not None) for block in architecture.blocks)]
        numbers.append(len(patches) - sum(numbers))
        blocks = [f"block {i}" for i in range(1, len(architecture.blocks) + 1)]
        assert list(found) == ["image", *blocks, "head"]
        rest = iter(patches)
        for (left, right), number in zip(found.values(), numbers, strict=True):
            for _, patch in itertools.islice(rest, number):
                assert left - 1e-9 <= patch.get_x() and patch.get_x() + patch.get_width() <= right + 1e-9
        assert all(a[1] + 0.2 < b[0] for a, b in itertools.pairwise(found.values()))


# --- words ------------------------------------------------------------------------------------------------------------


@every_drawing
def test_every_text_can_be_read_and_stands_in_nothings_way(name):
    figure = drawn(name)
    (axes,) = figure.axes
    boxes = [(text, text.get_window_extent()) for text in axes.texts if text.get_text()]
    bars = [(patch, patch.get_window_extent()) for patch in axes.patches]
    page = figure.bbox
    for text, box in boxes:
        assert text.get_fontsize() >= 12, text
        assert min(box.x0, box.y0, page.x1 - box.x1, page.y1 - box.y1) > 0.05 * figure.dpi, (text, "near the edge")
    for (one, a), (other, b) in itertools.chain(itertools.combinations(boxes, 2), itertools.product(boxes, bars)):
        assert not (min(a.x1, b.x1) > max(a.x0, b.x0) and min(a.y1, b.y1) > max(a.y0, b.y0)), (one, other)
    assert all(0.05 < bar.x0 / figure.dpi and bar.x1 < page.x1 - 0.05 * figure.dpi for _, bar in bars)


@every_drawing
def test_a_label_is_centred_over_the_layers_that_have_its_channels(name):
    """From left to right, each convolution and dense layer is under the label that has its number."""
    figure = drawn(name)
    for network, architecture in DRAWINGS[name].items():
        network = heading(network)
        layers, patches = layers_of(architecture), rectangles(figure, network)
        prefix = f"{network}: above "
        labels = [text for text in figure.axes[0].texts if text.get_gid().startswith(prefix)]
        middles = {text.get_gid(): text.get_position()[0] for text in labels}
        words = {text.get_gid(): text.get_text() for text in labels}
        under, gid = {gid: [] for gid in middles}, ""
        for (_, patch), (kind, size, channels) in zip(patches, layers, strict=True):
            own = f"{network}: above " + patch.get_gid().removeprefix(f"{network}: ")
            gid = own if own in middles else gid
            if kind != "pool":
                assert words[gid] == f"{size if kind == 'dense' else channels}"
                under[gid].append(patch)
        for gid, covered in under.items():
            right = covered[-1].get_x() + covered[-1].get_width()
            assert middles[gid] == pytest.approx((covered[0].get_x() + right) / 2)


def test_vgg_c_has_the_labels_that_table_1_gives():
    words = texts(plots.architecture_blocks({"C": VGG["C"]}), "C")
    assert words == {
        "image, line 1": "image", "image, line 2": "224²", "above image": "3",
        "block 1, line 1": "2 × 3×3", "block 1, line 2": "224²", "above conv 1.1": "64",
        "block 2, line 1": "2 × 3×3", "block 2, line 2": "112²", "above conv 2.1": "128",
        "block 3, line 1": "2 × 3×3, 1×1", "block 3, line 2": "56²", "above conv 3.1": "256",
        "block 4, line 1": "2 × 3×3, 1×1", "block 4, line 2": "28²", "above conv 4.1": "512",
        "block 5, line 1": "2 × 3×3, 1×1", "block 5, line 2": "14²", "above conv 5.1": "512",
        "head, line 1": "dense", "above dense 1": "4096", "above dense 2": "4096", "above dense 3": "1000",
    }  # fmt: skip


def test_kernels_and_sides_that_change_within_a_block_are_summed_up():
    strided = Block((Conv(8, 5, stride=2, padding=2), Conv(8, 3), Conv(16, 3, stride=2, padding=1), Conv(4, 1)), None)
    alternating = Block((Conv(4, 1), Conv(4, 3)) * 3, None)
    network = Architecture((strided, alternating), Head(pool_size=1), image_size=32)
    words = texts(plots.architecture_blocks({"a": network}), "a")
    assert (words["block 1, line 1"], words["block 1, line 2"]) == ("5×5, 2 × 3×3, 1×1", "16² and 8²")
    assert (words["block 2, line 1"], words["block 2, line 2"]) == ("6 × 1×1 to 3×3", "8²")
    assert [words[f"above conv 1.{i}"] for i in (1, 3, 4)] == ["8", "16", "4"] and "above conv 1.2" not in words
    assert (words["head, line 1"], words["head, line 2"]) == ("dense", "from 1²")
    halved = Architecture((Block((Conv(1, 3, stride=2, padding=1),) * 4, None),), image_size=32)
    assert texts(plots.architecture_blocks({"a": halved}), "a")["block 1, line 2"] == "16² to 2²"


# torchvision's published numbers of parameters; LeNet's by hand: 156 + 2,416 + 48,120 + 10,164 + 850.
@pytest.mark.parametrize(
    ("architecture", "layers", "parameters"),
    [
        (LENET, 5, "61,706"),
        (ALEXNET, 8, "61,100,840"),
        (VGG["A"], 11, "132,863,336"),
        (VGG["B"], 13, "133,047,848"),
        (VGG["D"], 16, "138,357,544"),
        (VGG["E"], 19, "143,667,240"),
        (VGG["A"].change(norm="batch"), 11, "132,868,840"),
        (VGG["E"].change(norm="batch"), 19, "143,678,248"),
    ],
)
def test_beside_the_name_stand_weight_layers_and_the_published_parameters(architecture, layers, parameters):
    figure = plots.architecture_blocks({"it": architecture})
    name, size = (next(t for t in figure.axes[0].texts if t.get_gid() == f"{what}: it") for what in ("name", "size"))
    assert size.get_text() == f"{layers} weight layers, {parameters} parameters"
    assert name.get_text() == "it" and name.get_weight() == "bold"
    assert name.get_window_extent().x1 < size.get_window_extent().x0
    assert f"it: {layers} weight layers, {parameters} parameters. " in figure.alt


@every_drawing
def test_parameters_are_as_many_as_torch_has(name):
    for architecture in DRAWINGS[name].values():
        assert parameters_of(architecture) == sum(p.numel() for p in network_of(architecture).parameters())


def test_the_alternative_text_tells_each_network():
    grouped = Architecture((Block((Conv(4, 3), Conv(1, 1)), None),), Head((5,), pool_size=2), image_size=8)
    figure = plots.architecture_blocks({"LeNet": LENET, "odd": grouped}, title="Two networks")
    assert figure.title == "Two networks"
    assert figure.alt == (
        "LeNet: 5 weight layers, 61,706 parameters. 28×28 image; 5×5 with 6 channels on 28², pooled to 14²; "
        "5×5 with 16 channels on 10², pooled to 5²; dense 120, 84 and 10. "
        "odd: 4 weight layers, 130 parameters. 8×8 image; 3×3, 1×1 with 4 and 1 channels on 8²; "
        "average pooling to 2²; dense 5 and 10."
    )
    single = plots.architecture_blocks({"a": Architecture((Block((Conv(1, 1),), None),), num_classes=2)})
    assert "1×1 with 1 channel on 28²; dense 2." in single.alt


@every_drawing
def test_alternative_text_has_every_name_whole_and_the_title_is_written(name):
    figure = drawn(name)
    assert all(f"{heading(network)}: " in figure.alt for network in DRAWINGS[name])
    assert "  " not in figure.alt and not re.search(r"\b1 (channels|layers)\b", figure.alt)
    (title,) = [text for text in figure.axes[0].texts if text.get_gid() == "title"]
    assert title.get_text() == figure.title == name and title.get_fontsize() == 15


def test_names_and_titles_that_are_too_long_end_in_dots():
    figure = plots.architecture_blocks(DRAWINGS["a long name"], title="A title that goes on " * 20)
    shortened = {text.get_gid(): text for text in figure.axes[0].texts if text.get_text().endswith("…")}
    assert len(shortened) == 2 and "title" in shortened
    page, sizes = figure.bbox.x1, [t for t in figure.axes[0].texts if t.get_gid().startswith("size: ")]
    assert all(text.get_window_extent().x1 < page for text in [*shortened.values(), *sizes])
    assert max(text.get_window_extent().x1 for text in sizes) > 0.9 * page, "not more than has to be"


def test_a_list_is_drawn_under_its_labels():
    figure = plots.architecture_blocks([VGG["A"], LENET])
    names = [text.get_text() for text in figure.axes[0].texts if text.get_gid().startswith("name: ")]
    assert names == ["VGG-11 (A)", "LeNet"]
    assert plots.architecture_blocks(VGG).alt.startswith("A: 11 weight layers")


# --- the page ---------------------------------------------------------------------------------------------------------


@every_drawing
def test_a_page_is_as_wide_as_others_unless_a_row_is_too_long(name):
    figure = drawn(name)
    width = figure.get_size_inches()[0]
    right = max(patch.get_window_extent().x1 for patch in figure.axes[0].patches) / figure.dpi
    assert width == 9 or (width > 9 and right > width - 0.5)
    if name in ("VGG-19 (E)", "from LeNet to VGG"):
        assert width == 9 and right > 8.2, "the room is used"


def test_a_wide_page_is_really_needed():
    assert drawn("more blocks than a page has room for").get_size_inches()[0] > 9
    assert drawn("twenty convolutions a block").get_size_inches()[0] == 9


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ([], "must hold at least one to draw, got none"),
        ({}, "must hold at least one to draw, got none"),
        (LENET, "architectures must be a sequence such as a tuple or a list, got Architecture"),
        ([LENET, "LeNet"], r"architectures\[1\] must be an Architecture, got 'LeNet'"),
        ({"a": None}, r"architectures\['a'\] must be an Architecture, such as LENET or VGG\['A'\], got None"),
        ([LENET, LENET], "must have different names, got 'LeNet', 'LeNet'"),
        ({"1": LENET, 1: ALEXNET}, "must have different names, got '1', '1'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        plots.architecture_blocks(wrong)


def test_it_is_saved_with_its_words_and_ids(tmp_path):
    figure = plots.architecture_blocks({"R&D <1>": LENET}, title='"Blocks" & more')
    svg, png = plots.save(figure, tmp_path / "blocks")
    root = ElementTree.fromstring(svg.read_bytes())
    space = "{http://www.w3.org/2000/svg}"
    assert root.findtext(f"{space}title") == '"Blocks" & more' and root.findtext(f"{space}desc") == figure.alt
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(set(ids)) == len(ids) and {"R&D <1>: conv 2.1", "R&D <1>: bracket of block 1", "note"} <= set(ids)
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_what_a_student_has_set_does_not_show():
    def pixels():
        plots.architecture_blocks([LENET]).savefig(file := io.BytesIO(), format="png")
        return file.getvalue()

    expected = pixels()
    with matplotlib.rc_context({"font.size": 40, "axes.facecolor": "black", "lines.linewidth": 9, "text.color": "red"}):
        assert pixels() == expected


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_a_confusion_cell_is_bluer_or_more_orange_the_larger_its_share():
    labels = np.repeat([0, 1, 2], 100)
    predictions = np.concatenate([np.repeat([0, 1, 2], n) for n in ((90, 10, 0), (30, 50, 20), (0, 1, 99))])
    axes = plots.confusion(labels, predictions, ["a", "b", "c"]).axes[0]
    misses, hits = axes.images
    shares = np.array([[90, 10, 0], [30, 50, 20], [0, 1, 99.0]])
    right = np.eye(3, dtype=bool)
    for image, shown in ((misses, ~right), (hits, right)):
        np.testing.assert_allclose(np.ma.filled(image.get_array(), np.nan)[shown], shares[shown])
        assert np.ma.getmaskarray(np.ma.masked_invalid(image.get_array()))[~shown].all(), "the others are left open"
    reds, _, blues = misses.to_rgba(np.array([0, 1, 10, 20, 30]))[:, :3].T
    assert (np.diff(blues) < 0).all() and (reds >= blues).all(), "wrong: from white to orange"
    reds, _, blues = hits.to_rgba(np.array([50, 90, 99]))[:, :3].T
    assert (np.diff(reds) < 0).all() and (blues > reds).all(), "right: to dark blue"


@pytest.mark.parametrize("channels", [1, 3])
def test_every_kernel_has_a_frame_as_large_as_it_is(channels):
    figure = plots.filters(torch.arange(4.0 * channels * 15).reshape(4, channels, 3, 5))
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == 4
    for axes in shown:
        (frame,) = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        assert frame.get_bbox().bounds == (-0.5, -0.5, 5, 3) and not frame.get_fill()
        assert axes.images[0].get_array().shape[:2] == (3, 5)


def test_feature_maps_stand_in_rows_below_the_image_stage_by_stage():
    maps = {"first": torch.rand(5, 6, 6), "second": torch.rand(2, 3, 3)}
    figure = plots.feature_maps(torch.rand(8, 8), maps, columns=3)
    figure.draw_without_rendering()
    places = [axes.images[0].get_window_extent() for axes in figure.axes if axes.images]
    image, *rest = places
    rows = [rest[:3], rest[3:5], rest[5:]]
    for above, below in itertools.pairwise([[image], *rows]):
        assert max(box.y1 for box in below) <= min(box.y0 for box in above)
    for row in rows:
        assert all(a.x1 <= b.x0 for a, b in itertools.pairwise(row)) and len({round(box.y0) for box in row}) == 1
    headings = [part.get_suptitle() for part in figure.subfigs[1:]]
    assert headings == ["first: 5 maps of 6×6", "second: 2 maps of 3×3"]
