"""The kernel laboratory and its drawings: every control is moved and the button pressed. No test asserts a time."""

import utils  # noqa: F401, I001
import itertools
import re

import numpy as np
import pytest
from for_sheets import assert_readable
import torch
from ipywidgets import Checkbox, IntSlider, SelectionSlider, ToggleButtons
from torch import nn

from utils import data as data_module
from utils.faults import OutOfMemory
from utils.plots.kernels import break_even_plot, cost_table, costs, short, what_they_see
from utils.plots.sheet import text_width
from utils.plots.style import LessonFigure
from utils.stacks import Stack, Timing, break_even
from utils.throughput import Throughput
from utils.widgets import KernelLaboratory, kernel_laboratory, kernels

IMAGE = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28)
PAIRS = [
    (Stack(a), Stack(b, n))
    for a, b, n in ((5, 3, 2), (13, 3, 6), (3, 13, 6), (7, 3, 1), (13, 11, 6), (7, 1, 6), (1, 1, 1))
]


@pytest.fixture
def lab(tiny):
    return kernel_laboratory(tiny, device="cpu")


@pytest.mark.parametrize("wrong", ["MNIST", torch.zeros(3, 1, 28, 28)])
def test_what_isnt_the_data_is_refused_and_so_are_its_parts(tiny, wrong):
    for data in (wrong, tiny.train):
        with pytest.raises(ValueError, match=r"data must be a FashionMNIST, such as load_fashion_mnist\(\)"):
            kernel_laboratory(data)


def only(sheet, name):
    (mark,) = [mark for mark in sheet.marks if mark.name == name]
    return mark


def cells(sheet, row):
    """What the table has for (large, stack, ratio)."""
    return tuple(only(sheet, f"{row} {which}").words for which in ("large", "stack", "ratio"))


# --- what they see ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("large", "stack"), PAIRS)
def test_each_square_is_what_has_a_gradient_behind_so_many_layers(large, stack):
    sheet = what_they_see(IMAGE, large, stack)
    left, right = sheet.named("image")
    cell = right.width / 28
    boxes = sorted((box for box in sheet.named("field ") if box.x >= 350), key=lambda box: box.width)
    assert len(boxes) == stack.num_convs
    for number, box in enumerate(boxes, 1):
        image = torch.zeros(1, 1, 99, 99, requires_grad=True)
        maps = image
        for _ in range(number):
            maps = nn.functional.conv2d(maps, torch.ones(1, 1, *(stack.kernel_size,) * 2), padding="same")
        maps[0, 0, 49, 49].backward()
        columns = image.grad[0, 0].any(dim=0).nonzero().ravel() - 49 + 14  # round the middle of 28 pixels
        assert (box.x - right.x) / cell == pytest.approx(float(columns[0])) == (box.y - right.y) / cell
        assert box.width / cell == pytest.approx(len(columns))
    assert left.width == right.width, "both to one scale"


@pytest.mark.parametrize(("large", "stack"), PAIRS)
def test_nothing_is_cut_off_and_no_text_is_small(large, stack):
    assert_readable(what_they_see(IMAGE, large, stack))
    for in_channels, out_channels in ((16, 32), (1, 512), (512, 1), (512, 512)):
        assert_readable(costs(large, stack, in_channels, out_channels, 224, seconds=(0.01, 123.4)))


def test_the_padding_is_drawn_where_a_square_is_larger_than_the_image():
    sheet = what_they_see(IMAGE, Stack(3), Stack(13, 6))
    assert "padding" in sheet.words() and "73×73" in sheet.words()
    assert "padding" not in what_they_see(IMAGE, Stack(5), Stack(3, 2)).words()


def test_the_image_is_drawn_faded_and_the_right_way_up():
    pixels = what_they_see(IMAGE, Stack(5), Stack(3, 2)).named("image")[0].pixels
    assert np.array_equal(pixels, (255 - 0.45 * IMAGE.astype(float)).round())


@pytest.mark.parametrize("image", [np.zeros((2, 28, 28), np.uint8), np.zeros((28, 20), np.uint8)])
def test_an_image_of_another_shape_is_refused(image):
    with pytest.raises(ValueError, match=r"image must have the shape \(H, H\) or \(1, H, H\), got"):
        what_they_see(image, Stack(5), Stack(3, 2))


# --- what they cost ---------------------------------------------------------------------------------------------------


def test_what_follows_from_the_knobs_cannot_be_set(lab):
    with pytest.raises(AttributeError, match=r"large follows from what is set, and can't be set: .*kernel_size.* can$"):
        lab.large = 4


def test_numbers_are_short_and_still_right():
    numbers = {
        1: "1", 0.00004: "0.00004", 0.1234: "0.123", 12.345: "12.3", 99.96: "100",
        800: "800", 12_800: "12,800", 999_999: "999,999", 1e6: "1.00 M",
        10_035_200: "10.0 M", 999.4e6: "999 M", 999.9e6: "1.00 G", 1.85e9: "1.85 G", 3.2e12: "3.20 T", 4.5e15: "4500 T",
    }  # fmt: skip
    assert {number: short(number) for number in numbers} == numbers


def test_a_row_has_both_numbers_and_how_many_times_as_much_the_stack_has():
    sheet = cost_table(Stack(5), Stack(3, 2), [("eggs", 4, 6, " g")], "Fresh.")
    assert cells(sheet, "eggs") == ("4 g", "6 g", "1.50 ×")
    assert "eggs: 4 g and 6 g, 1.50 ×" in sheet.alt and "Fresh." in sheet.words()


# --- where that is even -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("large", "stack"), PAIRS)
@pytest.mark.parametrize(("in_channels", "out_channels"), [(16, 32), (1, 512), (512, 1)])
def test_curve_break_even_and_you_are_where_the_weights_say(large, stack, in_channels, out_channels):
    sheet = break_even_plot(large, stack, in_channels, out_channels)
    curve, you, cheaper = only(sheet, "curve").points, only(sheet, "you"), only(sheet, "cheaper")
    at = you.x + you.width / 2, you.y + you.height / 2
    assert np.interp(at[0], *zip(*curve, strict=True)) == pytest.approx(at[1], abs=0.5), "on the curve"
    ratio = stack.weights(in_channels, out_channels) / large.weights(in_channels, out_channels)
    assert (at[1] < cheaper.y - 1e-6) == (ratio > 1), "below the line is where the stack has fewer"
    assert any(f"{ratio:.2f} ×" in words for words in sheet.words())
    even = break_even(stack, large)
    assert bool(sheet.named("break-even")) == (even is not None)
    if even is not None:
        x = only(sheet, "break-even").points[0][0]
        assert np.interp(x, *zip(*curve, strict=True)) == pytest.approx(cheaper.y, abs=0.5), "where the curve is at 1"
        assert f"even at {even}" in sheet.words()


def test_no_words_of_the_plot_lie_on_each_other():
    for large, stack in PAIRS:
        for channels in ((16, 32), (1, 512), (9, 16), (64, 64), (2, 1), (512, 1)):
            sheet = break_even_plot(large, stack, *channels)
            spans = []
            for mark in (*sheet.named("label"), *sheet.named("side")):
                width = text_width(mark.words, mark.size, bold=mark.bold)
                spans.append((mark.x, mark.x + width, mark.y - 9, mark.y + 2))
            for n, one in enumerate(spans):
                for other in spans[:n]:
                    apart = one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] or other[3] <= one[2]
                    assert apart, (large, stack, channels)


# --- the explorer -----------------------------------------------------------------------------------------------------


def test_it_starts_with_one_5x5_and_two_3x3(lab, tiny):
    assert isinstance(lab, KernelLaboratory) and (lab.large, lab.stack) == (Stack(5), Stack(3, 2))
    assert lab.message.value == "" and lab.same_field is True
    shown = lab.seen.drawn.named("image")[0].pixels
    assert np.array_equal(shown, (255 - 0.45 * tiny.validation.pixels[3, 0].numpy().astype(float)).round())


def test_without_data_it_looks_at_what_is_found(tiny, monkeypatch):
    reports = []

    def load_fashion_mnist(report):
        reports.append(report("a line"))
        return tiny

    monkeypatch.setattr(kernels, "load_fashion_mnist", load_fashion_mnist)
    assert kernel_laboratory().large == Stack(5) and reports == [None], "nothing is printed"
    assert data_module.load_fashion_mnist is not load_fashion_mnist


def test_the_options_of_the_controls_took_effect(lab):
    offered = {
        name: tuple(option[1] if isinstance(option, tuple) else option for option in control.options)
        for name, control in lab.controls.items()
        if isinstance(control, (ToggleButtons, SelectionSlider))
    }
    squares, channels = (1, 3, 5, 7, 9, 11, 13), (1, 2, 3, 4, 8, 9, 16, 32, 64, 128, 256, 512)
    assert offered == {
        "kernel_size": squares, "stack_kernel_size": squares, "in_channels": channels, "out_channels": channels,
        "side": (7, 14, 28, 32, 56, 112, 224),
    }  # fmt: skip
    number = lab.controls["num_convs"]
    assert isinstance(number, IntSlider) and (number.min, number.max) == (1, 6)
    assert isinstance(lab.controls["same_field"], Checkbox)
    assert (
        lab.measure_button.description == "measure both on this device" and lab.measure_button.button_style == "primary"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kernel_size", 7), ("stack_kernel_size", 5), ("num_convs", 4), ("in_channels", 64), ("out_channels", 8),
        ("side", 56),
    ],
)  # fmt: skip
def test_each_control_changes_what_is_drawn_as_torch_counts(lab, name, value):
    lab.controls["same_field"].value = False
    lab.controls[name].value = value
    assert getattr(lab, name) == value
    for which, k, n in (("large", lab.kernel_size, 1), ("stack", lab.stack_kernel_size, lab.num_convs)):
        channels = [lab.in_channels] + [lab.out_channels] * n
        convs = [nn.Conv2d(a, b, k, bias=False) for a, b in itertools.pairwise(channels)]
        weights = sum(conv.weight.numel() for conv in convs)
        costs = lab.costs.drawn
        assert only(costs, f"weights {which}").words == short(weights)
        assert only(costs, f"MACs {which}").words == short(weights * lab.side**2)
        assert only(costs, f"ReLUs {which}").words == f"{n}"
        assert only(costs, f"sees {which}").words == f"{1 + n * (k - 1)} px"
    assert len(lab.seen.drawn.named("field ")) == 1 + lab.num_convs
    assert f"{lab.in_channels} → {lab.out_channels}: " in " ".join(lab.costs.drawn.words())


@pytest.mark.parametrize(
    ("large", "small", "number"), [(7, 3, 3), (13, 3, 6), (13, 5, 3), (9, 5, 2), (3, 3, 1), (1, 1, 1)]
)
def test_with_the_tick_the_stack_sees_as_far_as_the_large_one(lab, large, small, number):
    lab.controls["kernel_size"].value = large
    lab.controls["stack_kernel_size"].value = small
    assert lab.num_convs == number and lab.stack.receptive_field == lab.large.receptive_field
    assert lab.message.value == "" and lab.same_field is True


@pytest.mark.parametrize(
    ("large", "small", "number", "words"),
    [
        (7, 5, 2, "No number of 5×5 sees just as far as one 7×7: two 5×5 see 9×9"),
        (1, 3, 1, "No number of 3×3 sees just as far as one 1×1: one 3×3 sees 3×3, the next that is more."),
        (5, 13, 1, "No number of 13×13 sees just as far as one 5×5: one 13×13 sees 13×13"),
        (5, 1, 2, "1×1 kernels see one pixel, however many there are, and one 5×5 sees 5×5: take 3×3"),
    ],
)
def test_where_no_number_sees_just_as_far_that_is_said(lab, large, small, number, words):
    lab.kernel_size = large
    lab.num_convs = number if small == 1 else lab.num_convs
    lab.stack_kernel_size = small
    assert lab.num_convs == number and words in lab.message.value and 'role="alert"' in lab.message.value
    assert f"{lab.stack.label}" in lab.seen.drawn.words(), "it is drawn all the same"
    lab.stack_kernel_size = 3 if large > 1 else 1
    assert lab.message.value == ""


def test_who_sets_the_number_by_hand_takes_the_tick_off_and_gets_it_back(lab):
    lab.controls["num_convs"].value = 5
    assert lab.same_field is False and lab.stack == Stack(3, 5)
    lab.controls["kernel_size"].value = 7
    assert lab.num_convs == 5, "it doesn't follow"
    lab.controls["same_field"].value = True
    assert lab.num_convs == 3


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("kernel_size", 4, "kernel_size must be one of 1, 3, 5, 7, 9, 11, 13, got 4"),
        ("stack_kernel_size", True, "stack_kernel_size must be one of 1, 3"),
        ("num_convs", 7, "num_convs must be a whole number from 1 to 6, got 7"),
        ("in_channels", 5, "in_channels must be one of 1, 2, 3, 4, 8, 9, 16"),
        ("side", 28.0, "side must be one of 7, 14, 28"),
        ("same_field", "yes", "same_field must be True or False, got 'yes'"),
    ],
)
def test_from_code_what_is_not_offered_is_refused_and_nothing_changes(lab, name, value, words):
    before, drawn = {each: getattr(lab, each) for each in lab.controls}, lab.costs.drawn
    with pytest.raises(ValueError, match=re.escape(words)):
        setattr(lab, name, value)
    assert before == {each: getattr(lab, each) for each in lab.controls} and lab.costs.drawn is drawn


# --- measured ---------------------------------------------------------------------------------------------------------


def throughput(seconds):
    return Throughput(1 / seconds, 0.5 / seconds, 2 / seconds, 5, 32, "bfloat16", "a test's machine", 2, {})


@pytest.fixture
def asked(monkeypatch):
    """Two 3×3 take 3 ms an image, one 5×5 takes 2; what was asked for is kept."""
    asked = []

    def time_both(stack, large, *numbers, device):
        asked.append((stack, large, numbers, device))
        return Timing(stack=throughput(0.003), large=throughput(0.002))

    monkeypatch.setattr(kernels, "time_both", time_both)
    return asked


def test_the_button_measures_what_is_set_and_says_the_ratio_beside_that_of_macs(lab, asked):
    lab.side = 56
    lab.measure_button.click()
    assert asked == [(Stack(3, 2), Stack(5), (16, 32, 56), torch.device("cpu"))]
    assert "On a test&#x27;s machine, 32 images at a time in bfloat16, in 5 rounds" in lab.measured.value
    assert "one 5×5 takes 2 ms an image (1 to 4), two 3×3 take 3 ms an image (1.5 to 6)" in lab.measured.value
    assert "1.50 × the time, with 1.08 × the MACs" in lab.measured.value
    assert cells(lab.costs.drawn, "time") == ("2 ms", "3 ms", "1.50 ×")
    assert cells(lab.costs.drawn, "MACs")[2] == "1.08 ×" and lab.timing.ratio == pytest.approx(1.5)
    assert "time: 2 ms and 3 ms" in lab.picture().alt


@pytest.mark.parametrize(("name", "value"), [("in_channels", 8), ("side", 7), ("kernel_size", 7), ("num_convs", 1)])
def test_what_was_measured_is_gone_as_soon_as_it_is_of_something_else(lab, asked, name, value):
    lab.measure_button.click()
    lab.controls[name].value = value
    assert lab.timing is None and lab.measured.value == "" and not lab.costs.drawn.named("time")


@pytest.mark.parametrize("error", [ValueError("one map of 14×14 takes 2 s"), OutOfMemory("memory ran out. Free some")])
def test_layers_that_are_too_large_to_measure_are_said_to_be(lab, asked, monkeypatch, error):
    lab.measure_button.click()

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(kernels, "time_both", refuse)
    lab.measure_button.click()
    assert f"Not measured: {error}" in lab.message.value and 'role="alert"' in lab.message.value
    assert lab.timing is None and lab.measured.value == "" and not lab.costs.drawn.named("time")


@pytest.mark.parametrize(("name", "value"), [("in_channels", 8), ("out_channels", 8), ("side", 7), ("num_convs", 1)])
def test_not_measured_is_said_until_something_else_is_set(lab, monkeypatch, name, value):
    def refuse(*_, **__):
        raise ValueError("one map takes 2 s")

    monkeypatch.setattr(kernels, "time_both", refuse)
    lab.same_field = False
    lab.measure_button.click()
    assert "Not measured" in lab.message.value
    lab.controls[name].value = value
    assert lab.message.value == ""


def test_too_many_weights_are_refused_at_the_button_for_real(lab):
    lab.kernel_size, lab.stack_kernel_size, lab.num_convs = 13, 13, 6
    lab.in_channels = lab.out_channels = 512
    lab.measure_button.click()
    assert "both together have 310,116,352 weights" in lab.message.value


# --- for who reads, and for who breaks it -----------------------------------------------------------------------------


def test_the_picture_shows_squares_table_and_plot_with_words_for_them(lab):
    picture = lab.picture()
    assert isinstance(picture, LessonFigure) and picture.title == "one 5×5, or two 3×3?"
    gids = {artist.get_gid() for artist in picture.findobj()}
    assert {"field 1", "field 2", "middle", "weights ratio", "curve", "break-even", "you", "note"} <= gids
    for words in ("two 3×3: one number sees 5×5 pixels", "weights: 12,800 and 13,824, 1.08 ×", "above 9/16"):
        assert words in picture.alt
    assert_readable(lab.sheet())


@pytest.mark.parametrize(("name", "value"), [("kernel_size", 7), ("num_convs", 3), ("side", 7), ("same_field", False)])
def test_an_error_that_nobody_foresaw_is_shown_and_raised(lab, monkeypatch, name, value):
    def broken(*_, **__):
        raise RuntimeError("no ink")

    monkeypatch.setattr(kernels, "costs", broken)
    with pytest.raises(RuntimeError, match="no ink"):
        lab.controls[name].value = value
    assert "RuntimeError: no ink" in lab.message.value
