"""Sheets: the same marks as SVG and as a figure; and a network drawn as columns, held against torch and torchvision."""

import base64
import io
import itertools
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
import torch
from for_sheets import assert_readable
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from torchvision.models import alexnet, vgg19

from utils.architectures import ALEXNET, LENET, LENET_BOOK, PRESETS, VGG, VGG_SMALL, Head, vgg_like
from utils.models import build
from utils.plots.columns import (
    WIDTH,
    columns_of,
    fields_over_image,
    network_columns,
    short,
    times,
    totals,
)
from utils.plots.live import live_curve
from utils.plots.sheet import Sheet, Stroke, Words, below, beside, text_width, wrapped
from utils.profiling import profile
from utils.trials import Look

SVG = "{http://www.w3.org/2000/svg}"
EVERY_PRESET = {preset.name: preset.architecture for preset in PRESETS}


def costs(architecture):
    return profile(build(architecture, device="meta"))


def pixels_of(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


# --- sheets -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def sheet():
    sheet = Sheet(100, 80, "A title <&>", 'What it "shows"')
    sheet.box(10, 10, 20, 30, "#0072B2", name="bar")
    sheet.box(40, 10, 20, 30, None, stroke="#D55E00", stroke_width=2, dash=(4, 2), name="frame")
    sheet.text(50, 70, "<5 & $x$", anchor="middle", bold=True, name="words")
    sheet.line([(0, 50), (100, 50)], "#24292F", width=2, name="line")
    sheet.image(70, 10, 20, 20, np.array([[0, 255], [128, 64]], np.uint8), name="image")
    return sheet


def test_the_svg_has_every_mark_where_it_was_put_and_says_what_it_shows(sheet):
    root = ElementTree.fromstring(sheet.svg())
    assert root.get("viewBox") == "0 0 100 80" and root.get("role") == "img"
    assert root.find(f"{SVG}title").text == "A title <&>" and root.find(f"{SVG}desc").text == 'What it "shows"'
    bar, frame = root.findall(f"{SVG}rect")
    assert [bar.get(name) for name in ("x", "y", "width", "height", "fill")] == ["10", "10", "20", "30", "#0072B2"]
    assert frame.get("fill") == "none" and frame.get("stroke-dasharray") == "4 2"
    assert root.find(f"{SVG}text").text == "<5 & $x$" and root.find(f"{SVG}text").get("text-anchor") == "middle"
    assert root.find(f"{SVG}polyline").get("points") == "0,50 100,50"
    address = root.find(f"{SVG}image").get("href")
    png = Image.open(io.BytesIO(base64.b64decode(address.partition("base64,")[2])))
    assert np.asarray(png).tolist() == [[0, 255], [128, 64]]


def test_the_figure_has_the_same_marks_in_the_same_places(sheet):
    figure = sheet.figure()
    assert figure.alt == sheet.alt and figure.title == sheet.title
    figure.set_dpi(96)
    drawn = pixels_of(figure)
    assert drawn.shape[:2] == (80, 100)
    assert drawn[20, 15].tolist() == [0x00, 0x72, 0xB2]  # in the bar
    assert drawn[20, 50].tolist() == [255, 255, 255]  # in the frame, which is empty
    assert drawn[50, 50].tolist() == [0x24, 0x29, 0x2F]  # on the line
    assert drawn[12, 72].tolist() == [0, 0, 0] and drawn[12, 87].tolist() == [255, 255, 255]  # of the image
    (words,) = [text for axes in figure.axes for text in axes.texts]
    assert words.get_gid() == "words" and words.get_size() == pytest.approx(12 * 72 / 96)


def test_sheets_are_put_side_by_side_and_below_each_other(sheet):
    wide, tall = beside([sheet, sheet], gap=10), below([sheet, sheet], gap=10)
    assert (wide.width, wide.height) == (210, 80) and (tall.width, tall.height) == (100, 170)
    assert [mark.x for mark in wide.named("bar")] == [10, 120]
    assert [mark.y for mark in tall.named("bar")] == [10, 100]
    assert tall.named("line")[1].points == ((0, 140), (100, 140))
    assert wide.alt == f"{sheet.alt} {sheet.alt}"


def test_a_texts_width_is_what_matplotlib_draws():
    for words, bold in (("parameters", False), ("WWW iii 22 %", False), ("VGG-19 (E)", True)):
        figure = Sheet(10, 10).figure()
        text = figure.text(0, 0, words, size=30, weight="bold" if bold else "normal")
        drawn = text.get_window_extent(FigureCanvasAgg(figure).get_renderer()).width / figure.dpi * 72
        assert text_width(words, 30, bold=bold) == pytest.approx(drawn, rel=0.08)


def test_what_is_no_mark_is_refused():
    sheet = Sheet(1, 1)
    sheet.marks.append("a text")
    with pytest.raises(TypeError, match="a mark must be"):
        sheet.svg()


# --- columns ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY_PRESET)
def test_the_columns_hold_all_of_the_networks_costs(name):
    found = costs(EVERY_PRESET[name])
    columns = columns_of(found)
    for attribute in ("parameters", "macs", "activation_bytes"):
        assert sum(getattr(column, attribute) for column in columns) == found.total[attribute]
    convs = [column for column in columns if column.kind == "conv"]
    dense = [column for column in columns if column.kind == "dense"]
    assert len(convs) == len(EVERY_PRESET[name].convs)
    assert [column.width for column in dense] == [*EVERY_PRESET[name].head.hidden, EVERY_PRESET[name].num_classes]
    assert {column.block for column in convs} == set(range(1, len(EVERY_PRESET[name].blocks) + 1))


@pytest.mark.parametrize(("theirs", "ours"), [(vgg19, VGG["E"]), (alexnet, ALEXNET)])
def test_torchvisions_networks_have_the_same_columns(theirs, ours):
    with torch.device("meta"):
        net = theirs()
    assert columns_of(profile(net, (3, 224, 224))) == columns_of(costs(ours))


def test_what_vgg19s_columns_say_is_what_is_known_of_it():
    columns = [column for column in columns_of(costs(VGG["E"])) if column.kind != "pool"]
    assert [c.width for c in columns[:16]] == [64] * 2 + [128] * 2 + [256] * 4 + [512] * 8
    assert [c.side for c in columns[:16]] == [224] * 2 + [112] * 2 + [56] * 4 + [28] * 4 + [14] * 4
    assert columns[16].parameters == 102_764_544 and columns[15].receptive_field == 252


def test_average_pooling_that_changes_nothing_has_no_column_and_one_that_does_has():
    def pools(architecture):
        return [c for c in columns_of(costs(architecture)) if c.kind == "pool" and c.block == "head"]

    assert pools(VGG["A"]) == [] and len(pools(VGG["A"].change(image_size=256))) == 1
    assert len(pools(vgg_like((1, 1), (4, 8), head=Head(pool_size=1)))) == 1


def test_blocks_are_the_architectures_whether_they_pool_or_not():
    blocks = VGG_SMALL["VGG (2,2)"].blocks
    unpooled = VGG_SMALL["VGG (2,2)"].change(blocks=tuple(replace(block, pool=None) for block in blocks))
    for architecture in (VGG_SMALL["VGG (2,2)"], unpooled):
        convs = [c.block for c in columns_of(costs(architecture)) if c.kind == "conv"]
        assert convs == [1, 1, 2, 2]
    drawn = network_columns(costs(unpooled), title="")
    assert {"block 1", "block 2"} <= set(drawn.words())


LONG = VGG["E"].change(norm="batch", activation="gelu", in_channels=1, num_classes=10)
LARGEST = vgg_like((6,) * 6, (64,) * 6, image_size=224, num_classes=1000, head=Head(hidden=(4096,) * 3))


@pytest.mark.parametrize(
    "architecture", [*EVERY_PRESET.values(), LONG, LARGEST, LARGEST.scaled(8)], ids=lambda a: a.label
)
def test_nothing_is_cut_off_and_no_two_texts_of_a_line_touch(architecture):
    notes = totals(costs(architecture), weight_layers=3, batch_size=512, reference=costs(LENET), of="LeNet")
    sheet = network_columns(costs(architecture), title=architecture.label, notes=notes)
    assert_readable(sheet, widest=WIDTH)
    assert all(0 <= x <= WIDTH and 0 <= y <= sheet.height for mark in sheet.marks if isinstance(mark, Stroke)
               for x, y in mark.points)  # fmt: skip
    spans = {}
    for mark in sheet.marks:
        if isinstance(mark, Words):
            width = text_width(mark.words, mark.size, bold=mark.bold)
            left = mark.x - width * {"start": 0, "middle": 0.5, "end": 1}[mark.anchor]
            spans.setdefault(mark.y, []).append((left, left + width, mark.words))
    for line in spans.values():
        line.sort()
        for (_, right, one), (left, _, other) in itertools.pairwise(line):
            assert right <= left + 1, f"{one!r} touches {other!r}"


def test_bars_are_to_scale():
    found = costs(LENET)
    sheet = network_columns(found, title="LeNet")
    for attribute, name in (("parameters", "parameters"), ("macs", "MACs"), ("activation_bytes", "memory")):
        values = [getattr(column, attribute) for column in columns_of(found)]
        heights = {mark.name: mark.height for mark in sheet.named(f"{name} of layer")}
        expected = {f"{name} of layer {i}": value for i, value in enumerate(values, start=1) if value}
        assert set(heights) == set(expected)
        ratio = {heights[key] / expected[key] for key in expected}
        assert max(ratio) == pytest.approx(min(ratio))


def test_maps_are_to_scale_by_their_square_roots():
    sheet = network_columns(costs(VGG["A"]), title="A")
    layers = sheet.named("layer")
    first, second = (layers[i].height for i in (0, 2))  # 224 and 112 pixels
    assert first / second == pytest.approx(2**0.5)
    assert layers[2].width / layers[0].width == pytest.approx(2**0.5)  # 128 and 64 channels


def test_shares_that_are_written_are_those_that_there_are():
    sheet = network_columns(costs(VGG["D"]), title="D")
    (share,) = sheet.named("parameters, share")
    assert share.words == f"{102_764_544 / 138_357_544:.0%}".replace("%", " %") == "74 %"


def test_who_sees_the_whole_image_is_said_and_marked():
    small = VGG_SMALL["VGG-11 ⅛ + BN"]
    sheet = network_columns(costs(small), title="small")
    marked = [mark.words for mark in sheet.named("field") if mark.bold]
    assert "46" in marked and "26" not in marked
    assert "From block 4 on, one number sees the whole 32×32 image." in " ".join(sheet.words())
    assert not any("whole" in words for words in network_columns(costs(LENET), title="LeNet").words())


def test_the_words_for_who_cant_see_it_name_every_block():
    one_pixel = network_columns(costs(vgg_like((1, 1), (8, 16), kernel_size=1)), title="")
    assert "block 1: 1×1, 1 → 8; maps of 14×14; sees 1 pixel;" in one_pixel.alt and "sees 2 pixels" in one_pixel.alt
    alt = network_columns(costs(VGG["A"]), title="A", notes=["a note."]).alt
    assert all(f"block {b}:" in alt for b in range(1, 6)) and "head:" in alt and "a note." in alt
    assert "3×3, 64 → 128" in alt and "224×224 image." in alt


# --- totals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0"), (999, "999"), (999.6, "1 k"), (61_706, "61.7 k"), (138_357_544, "138 M"), (15_470_264_320, "15.5 G"),
     (999_950, "1 M"), (1_234_567_890_123, "1,235 G")],
)  # fmt: skip
def test_numbers_have_three_digits_and_a_prefix(number, words):
    assert short(number) == words


@pytest.mark.parametrize(
    ("value", "reference", "words"),
    [(6, 10, "0.6 ×"), (12, 10_000, "0.0012 ×"), (134, 10, "13 ×"), (104, 100, "1.04 ×"), (96, 100, "0.96 ×"),
     (1, 1, "1 ×"), (25, 10, "2.5 ×"), (123_456, 1, "123,456 ×"), (99.96, 10, "10 ×"),
     (79, 1_000_000, "0.000079 ×"), (0, 5, "0 ×")],
)  # fmt: skip
def test_ratios_have_two_digits_and_three_near_one(value, reference, words):
    assert times(value, reference) == words


def test_totals_are_the_profiles_and_the_references():
    of_a, of_d = costs(VGG["A"]), costs(VGG["D"])
    first, second = totals(of_a, weight_layers=11, batch_size=128, reference=of_d, of="VGG-16")
    assert first == (
        f"133 M parameters · 7.61 G MACs an image · 11 weight layers · "
        f"{short(of_a.training_memory(128).total)}B to train a batch of 128"
    )
    assert second.startswith("Against VGG-16: 0.96 × the parameters, 0.49 × the MACs and 0.")


# --- what it sees -----------------------------------------------------------------------------------------------------


def test_squares_over_the_image_are_as_large_as_the_fields_and_in_its_middle():
    image = np.arange(32 * 32, dtype=np.uint8).reshape(32, 32)
    sheet = fields_over_image(costs(VGG_SMALL["VGG-11 ⅛ + BN"]), image)
    (picture,) = sheet.named("image")
    assert picture.pixels.tolist() == image.tolist()
    pixel = picture.width / 32
    for block, field in ((1, 3), (2, 8), (3, 26), (4, 32), (5, 32)):  # the last two see 62 and 134: all
        (square,) = sheet.named(f"field of block {block}")
        assert square.width == square.height == pytest.approx(field * pixel - 3)
        assert abs(square.x + square.width / 2 - picture.width / 2) <= pixel / 2 + 1e-6
    assert "block 5: 134×134, all of it" in sheet.words() and "block 3: 26×26" in sheet.words()
    dashes = [sheet.named(f"field of block {block}")[0].dash for block in range(1, 6)]
    assert len(set(dashes)) == 5  # told apart in grey too


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"\(28, 28\) of uint8, got shape \(32, 32\)"):
        fields_over_image(costs(LENET_BOOK), np.zeros((32, 32)))


# --- the curve while it grows -----------------------------------------------------------------------------------------


def test_the_curve_grows_on_axes_that_stay():
    losses = [2.3 - i / 100 for i in range(100)]
    looks = [Look(1, 2.4, 0.1), Look(50, 1.8, 0.4)]
    early = live_curve(losses[:10], looks[:1], total_steps=200, batch_size=128)
    late = live_curve(losses, looks, total_steps=200, batch_size=128)
    ticks = [[mark.words for mark in sheet.named("tick")] for sheet in (early, late)]
    assert ticks[0] == ticks[1] and "20 k" in ticks[0]
    ends = [sheet.named("training loss")[0].points[-1][0] for sheet in (early, late)]
    left = early.named("chance")[0].points[0][0]
    assert (ends[1] - left) / (ends[0] - left) == pytest.approx(10)
    assert [len(sheet.named("look")) for sheet in (early, late)] == [1, 2]
    assert "40% are right" in late.alt and "100 of 200 steps" in late.alt


def test_a_loss_at_chance_lies_on_the_dotted_line():
    sheet = live_curve([], [Look(100, float(np.log(10)), 0.1)], total_steps=200, batch_size=128)
    line = sheet.named("chance")[0]
    look = sheet.named("look")[0]
    assert look.y + look.height / 2 == pytest.approx(line.points[0][1])


def test_losses_that_are_no_numbers_or_huge_stay_on_the_sheet():
    sheet = live_curve([2.3, float("nan"), float("inf"), 1e9], [], total_steps=4, batch_size=8)
    points = sheet.named("training loss")[0].points
    assert all(0 <= x <= sheet.width and 0 <= y <= sheet.height for x, y in points)


def test_a_title_that_is_too_long_is_cut():
    sheet = live_curve([], [], total_steps=20, batch_size=128, title="Loss of " + LARGEST.label)
    (title,) = sheet.named("title")
    assert title.words.endswith("…") and text_width(title.words, title.size, bold=True) <= sheet.width


def test_it_can_be_drawn_before_the_first_step():
    sheet = live_curve([], [], total_steps=20, batch_size=128)
    assert sheet.named("training loss") == [] and re.search(r"0 of 20 steps", sheet.alt)


@pytest.mark.parametrize("unit", ["%", "×", "px", "s", "ms", "k", "GB", "MB/s", "GFLOP/s", "MFLOPs"])
def test_a_unit_stays_by_its_number(unit):
    lines = wrapped(f"there are about 94.7 {unit} of it", 12, text_width("there are about 94.7", 12) * 1.06)
    assert lines[0] == "there are about" and lines[1].startswith(f"94.7 {unit}")


def test_what_only_begins_like_a_unit_is_a_word():
    assert wrapped("about 94 seeds", 12, text_width("about 94", 12) * 1.1) == ["about 94", "seeds"]


def test_lines_end_at_words_and_a_per_cent_sign_stays_by_its_number():
    lines = wrapped("It takes 3.9 % of the FLOPs and 11 % of the time, in all", 12, 90)
    assert " ".join(lines) == "It takes 3.9 % of the FLOPs and 11 % of the time, in all" and len(lines) > 3
    assert not any(line.startswith("%") for line in lines)
    assert all(text_width(line, 12) <= 90 for line in lines)
    assert wrapped("incomprehensibilities stand\nalone", 12, 90) == ["incomprehensibilities", "stand alone"]


def test_sheets_side_by_side_are_the_parts_of_the_one_that_holds_them():
    one, other = Sheet(20, 10, "one"), Sheet(30, 20, "other")
    assert beside([one, other]).parts == (one, other) and below([one, other]).parts == ()
    assert beside([beside([one, other]), one]).parts == (one, other, one)
