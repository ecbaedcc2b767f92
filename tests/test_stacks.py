"""utils/stacks.py against torch: its shapes, its gradients, its counts. No test asserts a time."""

import utils  # noqa: F401, I001
import itertools
from fractions import Fraction

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from utils import stacks
from utils.stacks import (
    Sliding,
    Stack,
    Timing,
    as_far_as,
    break_even,
    time_both,
    verdict,
    weights_ratio,
    which_is_cheaper,
)
from utils.throughput import Throughput

KERNELS = (1, 3, 5, 7, 9, 11, 13)
WINDOWS = [
    (size, k, s, p)
    for size, k, s, p in itertools.product((1, 2, 5, 8, 11), (1, 2, 3, 5), (1, 2, 3, 4), (0, 1, 3))
    if k <= size + 2 * p
]
LENET_ALEXNET_VGG = [(28, 5, 1, 2), (224, 11, 4, 2), (224, 3, 1, 1), (55, 3, 2, 0), (7, 2, 2, 0)]


def seen(size, k, s, p):
    """(output, gradient of the output's sum) of a convolution with weights 1 over an image of ones."""
    image = torch.ones(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    output = F.conv2d(image, torch.ones(1, 1, k, k, dtype=torch.float64), stride=s, padding=p)
    (gradient,) = torch.autograd.grad(output.sum(), image, retain_graph=True)
    return image, output[0, 0], gradient[0, 0]


# --- a window that slides ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", WINDOWS + LENET_ALEXNET_VGG)
def test_a_window_fits_as_often_as_torchs_convolution_says(window):
    size, k, s, p = window
    conv = nn.Conv2d(1, 1, k, stride=s, padding=p, device="meta")
    assert conv(torch.empty(1, 1, size, size, device="meta")).shape[-1] == Sliding(*window).count
    if p == 0:
        assert nn.MaxPool2d(k, s)(torch.empty(1, 1, size, size, device="meta")).shape[-1] == Sliding(*window).count


@pytest.mark.parametrize("window", WINDOWS)
def test_what_no_window_reaches_has_no_gradient(window):
    sliding = Sliding(*window)
    _, _, gradient = seen(*window)
    rows = [row for row in range(sliding.size) if not gradient[row].any()]
    columns = [column for column in range(sliding.size) if not gradient[:, column].any()]
    assert rows == columns == sorted((*sliding.between, *sliding.beyond))
    assert sliding.num_unreached == int((gradient == 0).sum())
    last = sliding.starts[-1] + sliding.kernel_size
    assert all(pixel >= last for pixel in sliding.beyond) and all(pixel < last for pixel in sliding.between)


@pytest.mark.parametrize("window", [(11, 5, 3, 1), (10, 2, 3, 0), (8, 3, 1, 1), (5, 2, 4, 3)])
def test_each_window_stands_where_its_output_has_a_gradient(window):
    sliding = Sliding(*window)
    image, output, _ = seen(*window)
    for row, column in itertools.product(range(sliding.count), repeat=2):
        (gradient,) = torch.autograd.grad(output[row, column], image, retain_graph=True)
        expected = torch.zeros(sliding.size, sliding.size, dtype=torch.bool)
        top, left = (
            slice(max(0, sliding.starts[n]), max(0, sliding.starts[n] + sliding.kernel_size)) for n in (row, column)
        )
        expected[top, left] = True
        assert torch.equal(gradient[0, 0] != 0, expected)


def test_the_pooling_of_an_odd_side_drops_the_last_row_and_column():
    image = torch.rand(1, 1, 7, 7, requires_grad=True)
    nn.MaxPool2d(2)(image).sum().backward()
    assert Sliding(7, 2, 2).beyond == (6,) and not image.grad[0, 0, 6].any() and not image.grad[0, 0, :, 6].any()


@pytest.mark.parametrize("window", WINDOWS)
def test_a_window_sticks_out_only_where_something_is_left_over_for_it(window):
    size, k, s, p = window
    sliding = Sliding(*window)
    begin, end = sliding.starts[-1] + s, size + p
    if sliding.sticking_out is None:
        assert sliding.starts[-1] + k == end or begin >= end
    else:
        assert sliding.sticking_out == begin < end < begin + k and sliding.starts[-1] + k < end


@pytest.mark.parametrize("window", [(4, 2, 1, 3), (3, 2, 2, 2), (5, 3, 1, 2), (2, 1, 1, 1)])
def test_windows_that_look_at_padding_alone_are_counted(window):
    _, output, _ = seen(*window)
    assert Sliding(*window).num_blind == sum(not output[:, n].any() for n in range(len(output)))


def test_a_kernel_larger_than_the_padded_image_is_refused_and_each_way_out_is_one():
    with pytest.raises(
        ValueError, match=r"kernel_size is 8, .* 5×5 .* at most 5, .* at least 3, .* at least 6"
    ) as error:
        Sliding(3, 8, padding=1)
    assert "size 3, padding 1" in str(error.value)
    for window in (Sliding(3, 5, padding=1), Sliding(3, 8, padding=3), Sliding(6, 8, padding=1)):
        assert window.count >= 1
    for too_little in ((3, 6, 1, 1), (3, 8, 1, 2), (5, 8, 1, 1)):
        with pytest.raises(ValueError, match="kernel_size is"):
            Sliding(*too_little)


@pytest.mark.parametrize(("field", "value"), [("size", 0), ("stride", 0), ("padding", -1), ("kernel_size", 2.0)])
def test_a_window_refuses_numbers_that_make_no_sense(field, value):
    with pytest.raises(ValueError, match=f"{field} must be a whole number"):
        Sliding(**{"size": 5, "kernel_size": 3, field: value})


def test_the_formula_has_each_number_in_its_place():
    assert Sliding(224, 11, 4, 2).formula == "⌊(224 + 2·2 − 11) / 4⌋ + 1 = ⌊54.25⌋ + 1 = 55"
    marked = Sliding(224, 11, 4, 2).formula_with(lambda letter, number: f"{letter}{number}")
    assert marked.startswith("⌊(n224 + 2·p2 − k11) / s4⌋ + 1")


@pytest.mark.parametrize(
    ("window", "words"),
    [
        ((28, 5, 1, 2), "Every pixel is looked at, and the last window ends at the edge."),
        ((7, 2, 2, 0), "The last row and the last column are never looked at: no further window fits. 13 of 49 pixels"),
        ((12, 5, 4, 0), "The last 3 rows and columns are never looked at"),
        ((224, 11, 4, 2), "Left over at the end is padding alone (1): no pixel of the input is lost."),
        ((10, 2, 3, 0), "Between windows, 2 of the rows and as many columns are never looked at: the stride, 3"),
        ((4, 2, 1, 3), "4 of 9 windows across look at padding alone"),
        ((2, 1, 2, 1), "1 of 2 windows across looks at padding alone"),
        ((3, 1, 2, 0), "Between windows, one row and one column are never looked at"),
        ((1, 1, 2, 1), "1 of 1 pixel (100 %) has no say. 2 of 2 windows across look"),
    ],
)
def test_what_falls_off_is_said(window, words):
    assert words in Sliding(*window).in_words()


# --- a stack of kernels -----------------------------------------------------------------------------------------------

SOME = [Stack(5), Stack(3, 2), Stack(1, 4), Stack(7, 3), Stack(13)]


def without_bias(stack, in_channels, out_channels):
    """The stack, written out: nothing of ours."""
    channels = [in_channels] + [out_channels] * stack.num_convs
    k = stack.kernel_size
    convs = [nn.Conv2d(a, b, k, padding=k // 2, bias=False, device="meta") for a, b in itertools.pairwise(channels)]
    return nn.Sequential(*convs)


@pytest.mark.parametrize("stack", SOME, ids=lambda stack: stack.label)
@pytest.mark.parametrize(("in_channels", "out_channels"), [(1, 16), (16, 32), (64, 8)])
def test_weights_and_macs_are_those_that_torch_counts(stack, in_channels, out_channels):
    net = without_bias(stack, in_channels, out_channels)
    assert stack.weights(in_channels, out_channels) == sum(p.numel() for p in net.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.empty(1, in_channels, 14, 14, device="meta"))
    assert stack.macs(in_channels, out_channels, 14) == counter.get_total_flops() / 2


@pytest.mark.parametrize("stack", SOME, ids=lambda stack: stack.label)
def test_its_layers_are_those_weights_with_a_relu_behind_each_and_keep_the_maps_side(stack):
    layers = stack.layers(2, 3)
    assert sum(p.numel() for layer in layers for p in layer.parameters() if p.dim() > 1) == stack.weights(2, 3)
    assert sum(isinstance(layer, nn.ReLU) for layer in layers) == stack.num_relus == len(layers) / 2
    assert nn.Sequential(*layers)(torch.zeros(1, 2, 9, 9)).shape == (1, 3, 9, 9)


@pytest.mark.parametrize("stack", SOME, ids=lambda stack: stack.label)
def test_it_sees_what_has_a_gradient_layer_by_layer(stack):
    side = 31
    for number, field in enumerate(stack.fields, 1):
        image = torch.zeros(1, 1, side, side, dtype=torch.float64, requires_grad=True)
        maps = image
        for _ in range(number):
            maps = F.conv2d(maps, torch.ones(1, 1, *(stack.kernel_size,) * 2, dtype=torch.float64), padding="same")
        maps[0, 0, side // 2, side // 2].backward()
        assert int(image.grad[0, 0].any(dim=0).sum()) == field
    assert stack.receptive_field == stack.fields[-1]


def test_the_papers_examples_see_alike_and_cost_what_it_says():
    assert Stack(3, 3).receptive_field == Stack(7).receptive_field == 7
    assert Stack(3, 3).weights(10, 10) == 27 * 100 and Stack(7).weights(10, 10) == 49 * 100  # section 2.3
    assert Stack(3, 6).receptive_field == Stack(13).receptive_field


def test_a_stack_needs_an_odd_kernel_and_at_least_one():
    with pytest.raises(ValueError, match=r"kernel_size must be odd.*got 4: take 3 or 5"):
        Stack(4)
    with pytest.raises(ValueError, match="num_convs must be a whole number of at least 1, got 0"):
        Stack(3, 0)


def test_a_stack_is_called_as_one_says_it():
    assert [Stack(5).label, Stack(3, 2).label, Stack(1, 7).label] == ["one 5×5", "two 3×3", "7 1×1"]


# --- when is it cheaper? ----------------------------------------------------------------------------------------------

PAIRS = [(Stack(k, n), Stack(large)) for k in KERNELS for n in (1, 2, 3, 6) for large in KERNELS]


def test_the_break_even_of_the_lesson():
    assert break_even(Stack(3, 2), Stack(5)) == Fraction(9, 16)
    assert break_even(Stack(3, 3), Stack(7)) == Fraction(18, 40)


def test_at_the_break_even_both_have_as_many_weights_and_beside_it_not():
    found = 0
    for stack, large in PAIRS:
        if even := break_even(stack, large):
            found += 1
            a, b = even.numerator, even.denominator
            assert stack.weights(a, b) == large.weights(a, b)
            above = stack.weights(2 * a, b) - large.weights(2 * a, b)
            below = stack.weights(a, 2 * b) - large.weights(a, 2 * b)
            assert above < 0 < below, "with more channels in, the stack is the cheaper one"
    assert found > 20


def test_where_there_is_no_break_even_one_has_fewer_for_all_channels():
    channels = (1, 2, 9, 64, 512)
    for stack, large in PAIRS:
        if break_even(stack, large) is None and stack != large:
            less = {stack.weights(a, b) < large.weights(a, b) for a in channels for b in channels}
            assert len(less) == 1
            word = "fewer" if less.pop() else "more"
            assert f" {word} weights than {large.label}, whatever the channels" in which_is_cheaper(stack, large)


def test_the_ratio_is_that_of_the_weights_and_of_the_macs():
    for stack, large in PAIRS:
        ratio = weights_ratio(stack, large, 16 / 32)
        assert ratio == pytest.approx(stack.weights(16, 32) / large.weights(16, 32))
        assert ratio == pytest.approx(stack.macs(16, 32, 28) / large.macs(16, 32, 28))


def test_the_verdict_says_where_these_channels_are():
    two, one = Stack(3, 2), Stack(5)
    words = "Two 3×3 have fewer weights than one 5×5 where C_in/C_out is above 9/16."
    assert verdict(two, one, 16, 32) == f"{words} Here it is 16/32 = 0.5."
    assert verdict(two, one, 9, 16) == f"{words} Here it is just that: both have equally many."
    assert verdict(Stack(3), one, 1, 1) == "One 3×3 has fewer weights than one 5×5, whatever the channels."
    assert verdict(Stack(5, 2), one, 1, 1) == "Two 5×5 have more weights than one 5×5, whatever the channels."
    assert verdict(one, one, 1, 1) == "Both are one 5×5."


def test_as_far_as_the_large_one_takes_the_fewest_that_do():
    for kernel_size, large in itertools.product(KERNELS[1:], KERNELS):
        found = as_far_as(kernel_size, Stack(large))
        assert found.receptive_field >= large
        assert found.num_convs == 1 or Stack(kernel_size, found.num_convs - 1).receptive_field < large
    assert as_far_as(1, Stack(1)) == Stack(1)
    with pytest.raises(ValueError, match=r"1×1 kernels see one pixel, .* one 5×5 sees 5×5: take 3×3"):
        as_far_as(1, Stack(5))


# --- how long they take -----------------------------------------------------------------------------------------------


class Machine:
    """Nothing is measured: a multiply-accumulate takes as long as the test says. What was asked for is kept."""

    def __init__(self):
        self.seconds_a_mac, self.asked = 1e-11, []

    def inference_throughput(self, model, input_shape, *, batch_size, **options):
        weights = sum(p.numel() for p in model.parameters() if p.dim() > 1)
        self.asked.append((weights, input_shape, batch_size))
        rate = 1 / (self.seconds_a_mac * weights * input_shape[-1] ** 2)
        return Throughput(rate, rate, rate, 1, batch_size, "float32", "a test", 1, {})


@pytest.fixture
def machine(monkeypatch):
    machine = Machine()
    monkeypatch.setattr(stacks, "inference_throughput", machine.inference_throughput)
    return machine


def test_both_are_timed_in_turn_on_the_same_input_and_the_ratio_is_of_times(machine):
    found = time_both(Stack(3, 2), Stack(5), 16, 32, 28, device="cpu", dtype="float32")
    stack, large = Stack(3, 2).weights(16, 32), Stack(5).weights(16, 32)
    rounds = machine.asked[-10:]
    assert [weights for weights, *_ in rounds] == [stack, large] * 5
    assert {shape for _, shape, _ in rounds} == {(16, 28, 28)} and {batch for *_, batch in rounds} == {32}
    assert found.ratio == pytest.approx(stack / large) and found.stack.repeats == found.large.repeats == 5


@pytest.mark.parametrize(("channels", "side", "batch"), [((1, 1), 7, 256), ((16, 32), 28, 32), ((64, 64), 112, 1)])
def test_the_batch_is_as_large_as_its_work_allows_whatever_the_machine(machine, channels, side, batch):
    assert time_both(Stack(3, 2), Stack(5), *channels, side).large.batch_size == batch
    macs = sum(s.macs(*channels, side) for s in (Stack(3, 2), Stack(5)))
    assert batch in (1, 256) or batch * macs <= 2**30 < 2 * batch * macs


def test_what_would_take_long_is_refused_before_it_does(machine):
    machine.seconds_a_mac = 1e-9
    with pytest.raises(ValueError, match=r"one map of \d+×\d+ takes .* and yours is 224×224.*fewer channels"):
        time_both(Stack(3, 2), Stack(5), 64, 64, 224)
    longest = max(machine.seconds_a_mac * weights * shape[-1] ** 2 for weights, shape, _ in machine.asked)
    assert longest < stacks.LONGEST, "smaller maps have told"


def test_a_map_that_is_small_enough_is_not_refused(machine):
    machine.seconds_a_mac = 1e-9
    assert time_both(Stack(3, 2), Stack(5), 64, 64, 14).ratio < 1


def test_more_weights_than_are_quickly_made_are_refused_and_none_is_made(machine):
    with pytest.raises(ValueError, match=r"both together have 310,116,352 weights.*take fewer channels or smaller"):
        time_both(Stack(13, 6), Stack(13), 512, 512, 7)
    assert not machine.asked


def test_real_times_leave_torchs_random_numbers_as_they_were(monkeypatch):
    monkeypatch.setattr(stacks, "ENOUGH", 0)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    found = time_both(Stack(3, 2), Stack(5), 1, 2, 7, dtype="float32")
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(found, Timing) and found.ratio > 0 and found.stack.repeats == 2
    assert found.stack.low <= found.stack.images_per_s <= found.stack.high
