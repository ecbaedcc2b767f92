"""The shape calculator and its drawing: every control is moved, and what is drawn is held against torch."""

import utils  # noqa: F401, I001
import re

import pytest
from for_sheets import assert_readable
import torch
from ipywidgets import Checkbox, Dropdown, IntSlider, ToggleButtons
from torch import nn

from utils.architectures import ALEXNET, LENET, VGG
from utils.models import build
from utils.plots.style import LessonFigure
from utils.plots.windows import shape_formulas, sliding_window
from utils.stacks import Sliding
from utils.widgets import ShapeCalculator, shape_calculator, shapes
from utils.widgets.shapes import CONVOLUTION, OWN, POOLING, STAGE, known_stages


@pytest.fixture
def calculator():
    return shape_calculator()


def torch_sides(c):
    """(after the convolution, after the pooling), by torch."""
    maps = nn.Conv2d(1, 1, c.kernel_size, c.stride, c.padding, device="meta")(
        torch.empty(1, 1, c.size, c.size, device="meta")
    )
    pooled = nn.MaxPool2d(c.pool_kernel_size, c.pool_stride)(maps) if c.pooling else maps
    return maps.shape[-1], pooled.shape[-1]


def only(sheet, name):
    (mark,) = sheet.named(name)
    return mark


# --- the drawing ------------------------------------------------------------------------------------------------------

WINDOWS = [(11, 5, 3, 1), (10, 2, 3, 0), (28, 5, 1, 2), (55, 3, 2, 0), (224, 11, 4, 2), (9, 4, 5, 0), (4, 2, 1, 3)]


@pytest.mark.parametrize("window", WINDOWS)
def test_what_is_marked_as_never_looked_at_has_no_gradient(window):
    size, k, s, p = window
    image = torch.ones(1, 1, size, size, requires_grad=True)
    nn.functional.conv2d(image, torch.ones(1, 1, k, k), stride=s, padding=p).sum().backward()
    sheet = sliding_window(Sliding(*window), 0, 0)
    drawn, ground = torch.zeros(size, size, dtype=torch.bool), only(sheet, "image")
    cell = ground.width / size
    for box in sheet.named("unreached"):
        rows = slice(round((box.y - ground.y) / cell), round((box.y + box.height - ground.y) / cell))
        columns = slice(round((box.x - ground.x) / cell), round((box.x + box.width - ground.x) / cell))
        drawn[rows, columns] = True
    assert torch.equal(drawn, image.grad[0, 0] == 0)


@pytest.mark.parametrize("window", WINDOWS)
def test_the_window_and_its_place_in_the_output_are_drawn_to_one_scale(window):
    sliding = Sliding(*window)
    row, column = sliding.count // 2, sliding.count - 1
    sheet = sliding_window(sliding, row, column)
    ground, box, place = (only(sheet, name) for name in ("image", "window", "output place"))
    into = sheet.named("output")[0]
    cell = ground.width / sliding.size
    assert box.width == pytest.approx(cell * sliding.kernel_size)
    assert box.x == pytest.approx(ground.x + cell * sliding.starts[column])
    assert box.y == pytest.approx(ground.y + cell * sliding.starts[row])
    assert into.width == pytest.approx(cell * sliding.count)
    assert place.x == pytest.approx(into.x + cell * column) and place.y == pytest.approx(into.y + cell * row)


@pytest.mark.parametrize("window", WINDOWS)
def test_nothing_is_cut_off_and_no_text_is_small(window):
    sliding = Sliding(*window)
    for place in {0, sliding.count - 1}:
        assert_readable(sliding_window(sliding, place, place))


def test_a_window_that_would_stick_out_is_dashed_to_the_right_and_below():
    sliding = Sliding(11, 5, 3, 1)
    sheet = sliding_window(sliding, 1, 2)
    ground = only(sheet, "image")
    cell = ground.width / 11
    right, below = only(sheet, "sticks out right"), only(sheet, "sticks out below")
    assert right.dash and below.dash
    assert (right.x - ground.x) / cell == pytest.approx(8) == (below.y - ground.y) / cell
    assert (right.y - ground.y) / cell == pytest.approx(2) and (below.x - ground.x) / cell == pytest.approx(5)
    assert not sliding_window(Sliding(28, 5, 1, 2), 0, 0).named("sticks out")


def test_padding_has_zeros_where_they_can_be_read_and_is_hatched_where_not():
    small, large = sliding_window(Sliding(11, 5, 3, 1), 0, 0), sliding_window(Sliding(224, 11, 4, 2), 0, 0)
    assert len(small.named("zero")) == 13**2 - 11**2 and not large.named("zero")
    assert large.named("hatch") and not large.named("grid"), "1.5 pixels a cell: lines would cover all"
    assert {"0", "223"} <= set(large.words())
    none = sliding_window(Sliding(11, 5, 3, 0), 0, 0)
    assert not none.named("padding") and not none.named("zero")


def test_rows_and_columns_that_are_looked_at_are_said_and_so_is_what_is_not():
    sheet = sliding_window(Sliding(11, 5, 3, 1), 0, 2, come_in="map", go_out="pooled")
    assert only(sheet, "where").words == "pooled[0, 2] looks at rows −1 to 3 and columns 5 to 9 of the map."
    lost = " ".join(mark.words for mark in sheet.named("lost"))
    assert lost == Sliding(11, 5, 3, 1).in_words() and lost in sheet.alt
    assert "looks at row 2 and column 0 of" in sliding_window(Sliding(3, 1), 2, 0).alt


def test_a_place_outside_of_the_output_is_refused():
    with pytest.raises(ValueError, match="column must be from 0 to 2, got 3"):
        sliding_window(Sliding(11, 5, 3, 1), 0, 3)


def test_the_formulas_stand_on_a_sheet_for_readers():
    stages = {"convolution": Sliding(28, 5, 1, 2), "pooling": Sliding(28, 2, 2)}
    sheet = shape_formulas(stages)
    assert [only(sheet, f"formula {name}").words for name in stages] == [w.formula for w in stages.values()]
    assert_readable(sheet)


# --- the explorer -----------------------------------------------------------------------------------------------------


def test_it_starts_on_a_small_grid_where_something_falls_off(calculator):
    assert isinstance(calculator, ShapeCalculator) and calculator.message.value == ""
    assert calculator.drawing.drawn.named("unreached") and calculator.drawing.drawn.named("zero")
    assert "⌊2.667⌋ + 1 = 3" in calculator.formula.value


def test_the_options_of_the_controls_took_effect(calculator):
    ranges = {name: (c.min, c.max) for name, c in calculator.controls.items() if isinstance(c, IntSlider)}
    assert ranges == {
        "size": (1, 224), "kernel_size": (1, 13), "stride": (1, 8), "padding": (0, 6), "pool_kernel_size": (1, 6),
        "pool_stride": (1, 6), "row": (0, 2), "column": (0, 2),
    }  # fmt: skip
    kinds = {name: type(calculator.controls[name]) for name in ("start_from", "pooling", "shown")}
    assert kinds == {"start_from": Dropdown, "pooling": Checkbox, "shown": ToggleButtons}
    assert calculator.play.interval == 300 and calculator.play.show_repeat is False
    assert (calculator.play.min, calculator.play.max) == (0, 8)


@pytest.mark.parametrize(
    ("name", "value", "letter"),
    [
        ("size", 20, "n"), ("kernel_size", 3, "k"), ("stride", 2, "s"), ("padding", 4, "p"),
        ("pool_kernel_size", 1, "k"), ("pool_stride", 1, "s"),
    ],
)  # fmt: skip
def test_each_slider_changes_formula_and_drawing_as_torch_says(calculator, name, value, letter):
    shown = POOLING if name.startswith("pool") else CONVOLUTION
    calculator.controls["shown"].value = shown
    before = calculator.drawing.drawn
    calculator.controls[name].value = value
    assert getattr(calculator, name) == value and calculator.message.value == ""
    assert tuple(window.count for window in calculator.stages.values()) == torch_sides(calculator)
    line = re.search(rf"<tr>[^/]*<b>{shown}</b>.*?</tr>", calculator.formula.value)[0]
    numbers = re.findall(r'<b style="color:[^"]+">(\d+)</b>', line)
    assert int(dict(zip("npks", numbers[:4], strict=True))[letter]) == value
    assert calculator.drawing.drawn is not before
    window, sheet = calculator.stages[shown], calculator.drawing.drawn
    assert only(sheet, "window").width / only(sheet, "image").width == pytest.approx(window.kernel_size / window.size)


def test_pooling_comes_and_goes_with_its_controls(calculator):
    calculator.controls["shown"].value = POOLING
    assert "pooled[0, 0] looks at" in calculator.drawing.drawn.alt
    calculator.controls["pooling"].value = False
    assert [*calculator.stages] == [CONVOLUTION] == [calculator.shown] and "pooling" not in calculator.formula.value
    assert "output[0, 0] looks at" in calculator.drawing.drawn.alt
    assert calculator.controls["shown"].layout.display == "none"
    with pytest.raises(ValueError, match=r"shown must be 'convolution' while there is no pooling.*set pooling=True"):
        calculator.shown = POOLING
    calculator.pooling = True
    assert [*calculator.stages] == [CONVOLUTION, POOLING] and calculator.controls["shown"].layout.display != "none"


def test_the_window_moves_by_row_and_column_and_play_goes_on_from_there(calculator):
    calculator.controls["row"].value, calculator.controls["column"].value = 1, 2
    assert "output[1, 2]" in calculator.drawing.drawn.alt and calculator.play.value == 5
    calculator.play.value = 6
    assert (calculator.row, calculator.column) == (2, 0) and "output[2, 0]" in calculator.drawing.drawn.alt
    calculator.play.value = calculator.play.max
    assert (calculator.row, calculator.column) == (2, 2)


def test_play_crosses_a_large_output_in_few_frames(calculator):
    calculator.start_from = "VGG-11, block 1"
    assert calculator.play.max == 224**2 - 1 and calculator.play.max / calculator.play.step <= 150


def test_a_place_that_there_is_no_more_becomes_the_last_one(calculator):
    calculator.size, calculator.row, calculator.column = 30, 9, 8
    calculator.size = 11
    assert (calculator.row, calculator.column) == (2, 2) == (calculator.controls["row"].max,) * 2
    calculator.shown = POOLING
    assert (calculator.row, calculator.column) == (0, 0) and calculator.play.max == 0


# --- what can't be built ----------------------------------------------------------------------------------------------


def test_a_kernel_larger_than_the_image_is_refused_in_words_and_the_last_drawing_stays(calculator):
    calculator.change(padding=0, pooling=False)
    drawn, formula = calculator.drawing.drawn, calculator.formula.value
    calculator.controls["kernel_size"].value = 13
    words = calculator.message.value
    assert "a window of 13×13 has no room on 11×11 pixels" in words and "a kernel of at most 11" in words
    assert "_" not in words, "names from the code say nothing to who turns knobs"
    assert 'role="alert"' in words
    assert calculator.drawing.drawn is drawn and calculator.formula.value == formula
    calculator.controls["column"].value = 1
    assert "output[0, 1]" in calculator.drawing.drawn.alt, "the last one can still be looked at"
    calculator.controls["size"].value = 13
    assert calculator.message.value == "" and calculator.stages[CONVOLUTION] == Sliding(13, 13, 3, 0)


def test_pooling_larger_than_what_is_left_is_refused_in_words(calculator):
    stages = calculator.stages
    calculator.controls["pool_kernel_size"].value = 4
    words = calculator.message.value
    assert "the pooling’s window of 4×4 has no room on the 3×3 that the convolution leaves" in words
    assert "_" not in words
    assert calculator.stages is stages
    enough = int(re.search(r"a size of at least (\d+)", words)[1])
    calculator.controls["size"].value = enough - 1
    assert calculator.message.value != ""
    calculator.controls["size"].value = enough
    assert calculator.message.value == "" and calculator.stages[POOLING].count == 1


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("size", 2, "kernel_size is 5, and there are only 4×4 pixels"),
        ("size", 225, "size must be a whole number from 1 to 224, got 225"),
        ("stride", 0, "stride must be a whole number of at least 1, got 0"),
        ("kernel_size", True, "kernel_size must be a whole number"),
        ("pooling", 1, "pooling must be True or False, got 1"),
        ("pool_kernel_size", 5, "pool_kernel_size is 5, and the convolution leaves only 3×3"),
        ("shown", "dense", "shown must be one of 'convolution', 'pooling', got 'dense'"),
        ("row", 3, "row must be a whole number from 0 to 2, got 3"),
        ("start_from", "ResNet", "start_from must be one of 'your own', 'a small one', 'LeNet, block 1'"),
    ],
)
def test_from_code_what_does_not_fit_is_refused_and_nothing_changes(calculator, name, value, words):
    before = {each: getattr(calculator, each) for each in (*STAGE, "shown", "row", "column", "start_from")}
    drawn = calculator.drawing.drawn
    with pytest.raises(ValueError, match=re.escape(words)):
        setattr(calculator, name, value)
    assert before == {each: getattr(calculator, each) for each in before} and calculator.drawing.drawn is drawn
    assert calculator.message.value == ""


def test_several_are_set_at_once_where_one_after_the_other_would_not_fit(calculator):
    calculator.change(size=7, kernel_size=7, padding=0, stride=1, pooling=False)
    assert calculator.stages == {CONVOLUTION: Sliding(7, 7)} and calculator.controls["size"].value == 7
    with pytest.raises(ValueError, match="bias is not one of the calculator's settings: it has size, kernel_size"):
        calculator.change(bias=True)


# --- known stages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "architecture"), [("LeNet", LENET), ("AlexNet", ALEXNET), ("VGG-11", VGG["A"])])
def test_the_known_stages_are_those_of_the_networks_that_are_built(calculator, name, architecture):
    image = torch.empty(1, *architecture.input_shape, device="meta")
    block, sides = 1, {}
    for layer in build(architecture, device="meta").features:
        side, image = image.shape[-1], layer(image)
        if isinstance(layer, (nn.Conv2d, nn.MaxPool2d)):
            sides.setdefault(block, []).append((side, image.shape[-1]))
            block += isinstance(layer, nn.MaxPool2d)
    expected = {f"{name}, block {n}": found for n, found in sides.items() if len(found) == 2}
    assert expected and expected.keys() == {known for known in known_stages() if known.startswith(name)}
    for known, found in expected.items():
        calculator.controls["start_from"].value = known
        assert [(w.size, w.count) for w in calculator.stages.values()] == found
        assert_readable(calculator.sheet())


def test_the_menu_names_what_is_set(calculator):
    calculator.start_from = "LeNet, block 1"
    calculator.controls["stride"].value = 2
    assert calculator.start_from == OWN
    calculator.controls["stride"].value = 1
    assert calculator.start_from == "LeNet, block 1"
    calculator.padding = 1
    assert calculator.start_from == OWN
    calculator.change(padding=2)
    assert calculator.start_from == "LeNet, block 1"
    calculator.controls["start_from"].value = OWN
    assert calculator.stages[CONVOLUTION] == Sliding(28, 5, 1, 2)


# --- for who reads, and for who breaks it -----------------------------------------------------------------------------


def test_the_picture_shows_formulas_and_grids_with_words_for_them(calculator):
    picture = calculator.picture()
    assert isinstance(picture, LessonFigure)
    gids = {artist.get_gid() for artist in picture.findobj()}
    assert {"window", "unreached rows 10–10", "formula convolution", "output place"} <= gids
    assert "gives 3×3 numbers" in picture.alt and calculator.stages[CONVOLUTION].formula in picture.alt
    assert_readable(calculator.sheet())


def test_an_error_that_nobody_foresaw_is_shown_and_raised(calculator, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no ink")

    monkeypatch.setattr(shapes, "sliding_window", broken)
    for name, value in (("size", 12), ("row", 1), ("shown", POOLING), ("start_from", "LeNet, block 1")):
        calculator.say()
        with pytest.raises(RuntimeError, match="no ink"):
            calculator.controls[name].value = value
        assert "RuntimeError: no ink" in calculator.message.value
