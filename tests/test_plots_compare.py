"""The plots that compare: arms, costs, parts, lines and fields. What is drawn is read back from the artists."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from matplotlib.colors import same_color
from matplotlib.text import Text
from torch import nn

from utils import plots
from utils.architectures import ALEXNET, LENET, VGG, VGG_SMALL, vgg_like
from utils.comparing import interval
from utils.models import build
from utils.profiling import profile
from utils.receptive import effective_field

pytestmark = pytest.mark.filterwarnings("error")


def runs_of(**accuracies):
    return {
        name.replace("_", " "): [{"accuracy": a / 100, "evaluate_on": "test", "is_sample": False} for a in values]
        for name, values in accuracies.items()
    }


def by_gid(figure, gid):
    (found,) = figure.findobj(lambda artist: artist.get_gid() == gid)
    return found


def assert_legible(figure):
    """No text overlaps another or leaves the page."""
    figure.lay_out()
    renderer = figure.canvas.get_renderer()
    hidden = {label for axes in figure.axes for label in tick_labels_that_are_not_shown(axes)}
    written = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and t not in hidden]
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in written]
    for text, box in boxes:
        assert box.x0 >= -1 and box.y0 >= -1, f"cut off: {text}"
        assert box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1, f"cut off: {text}"
    for (one, a), (other, b) in combinations(boxes, 2):
        overlap = min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
        assert not overlap, f"{one!r} overlaps {other!r}"


def tick_labels_that_are_not_shown(axes):
    """Matplotlib keeps labels of ticks outside the limits, and of axes that are switched off."""
    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        low, high = sorted(limits)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not axes.axison or not low <= tick.get_loc() <= high:
                yield from (tick.label1, tick.label2)


# --- arms -------------------------------------------------------------------------------------------------------------


def test_arms_have_a_dot_a_seed_and_students_interval():
    figure = plots.arms(runs_of(deep=(91.0, 91.4, 91.5), flat=(90.0, 90.9, 90.1)), title="Deep or flat")
    dots = by_gid(figure, "seeds: deep")
    assert np.ma.getdata(dots.get_offsets())[:, 0] == pytest.approx([91.0, 91.4, 91.5])
    (segment,) = by_gid(figure, "interval: flat").get_segments()
    assert segment[:, 0] == pytest.approx(interval([90.0, 90.9, 90.1]))
    assert by_gid(figure, "mean: flat").get_text() == "90.33 %"
    assert figure.title == "Deep or flat" and "deep 91.30%, interval 90.64 and 91.96" in figure.alt
    assert_legible(figure)


def test_a_single_seed_has_no_interval_and_says_so():
    figure = plots.arms(runs_of(a=(91.0,), b=(90.0,)))
    assert not figure.findobj(lambda artist: str(artist.get_gid()).startswith("interval"))
    assert "One seed an arm: there is no interval." in [t.get_text() for t in figure.findobj(Text)]


def test_an_arm_that_has_learnt_nothing_does_not_flatten_the_others():
    good = {f"arm_{i}": (90 + i / 10, 90.2 + i / 10, 90.1 + i / 10) for i in range(6)}
    figure = plots.arms(runs_of(**good, stuck=(10.0, 10.0, 10.0)))
    (axes,) = figure.axes
    assert axes.get_xlim()[0] > 80 and by_gid(figure, "mean: stuck").get_text() == "10.00 %"
    assert by_gid(figure, "below: stuck").get_text() == "← far below"
    assert_legible(figure)


def test_arms_of_the_longest_names_are_legible():
    from utils.catalog import KERNELS

    runs = {arm.label: runs_of(a=(90.0, 90.5, 91.0))["a"] for arm in KERNELS.arms}
    assert_legible(plots.arms(runs))


# --- costs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", [LENET, ALEXNET, VGG["E"], VGG_SMALL["VGG-11 ⅛ + BN"]], ids=lambda a: a.label)
def test_costs_are_shares_of_all_parameters_and_macs(architecture):
    net = build(architecture, device="meta")
    figure = plots.layer_costs(profile(net))
    left, right = figure.axes
    counted = [sum(p.numel() for p in m.parameters()) for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    everything = sum(p.numel() for p in net.parameters())
    assert [-bar.get_width() for bar in left.patches] == pytest.approx([100 * n / everything for n in counted])
    assert sum(bar.get_width() for bar in right.patches) == pytest.approx(100)
    assert same_color(left.patches[0].get_facecolor(), plots.COLOURS["convolution"])
    assert same_color(left.patches[-1].get_facecolor(), plots.COLOURS["dense"])
    assert f"{everything:,} parameters" in figure.alt and f"dense {len(counted)}: " in figure.alt
    assert_legible(figure)


def test_a_network_without_weights_has_no_costs_to_draw():
    with pytest.raises(ValueError, match="must have a convolution or a dense layer to draw"):
        plots.layer_costs(profile(nn.Sequential(nn.Flatten()), (1, 4, 4)))


def test_parts_lie_one_behind_the_other():
    parts = {"A": {"conv": 9_220_480, "dense": 123_642_856}, "E": {"conv": 20_024_384, "dense": 123_642_856}}
    figure = plots.stacked_bars(parts, title="The family", unit="parameters")
    bars = [(bar.get_x(), bar.get_width()) for bar in figure.axes[0].patches]
    assert bars == [(0, 9_220_480), (9_220_480, 123_642_856), (0, 20_024_384), (20_024_384, 123_642_856)]
    written = [t.get_text() for t in figure.findobj(Text)]
    assert "132,863,336" in written and "143,667,240" in written and written.count("123,642,856") == 2
    assert (
        "parameters: conv blue and dense orange" in written and "A, 9,220,480 conv and 123,642,856 dense" in figure.alt
    )
    assert_legible(figure)


def test_parts_that_cannot_be_drawn_are_refused():
    with pytest.raises(ValueError, match="parts must be a dict, such as"):
        plots.stacked_bars({}, title="", unit="")
    with pytest.raises(ValueError, match="A: kind must be one of conv, pool, dense, other, got 'head'"):
        plots.stacked_bars({"A": {"head": 1}}, title="", unit="")


# --- lines ------------------------------------------------------------------------------------------------------------


def test_lines_are_drawn_in_the_order_of_x_with_their_intervals():
    figure = plots.lines(
        {"one scale": [(16, 27, 26.5, 27.5), (11, 29.6, 29, 30)], "two": [(13, 28, 27, 29), (19, 25.5, 25, 26)]},
        x="weight layers", y="top-1 error, %", title="Deeper", note="Table 3", labels={11: "A", 16: "D"},
    )  # fmt: skip
    (axes,) = figure.axes
    assert by_gid(figure, "line: one scale").get_xydata().tolist() == [[11, 29.6], [16, 27.0]]
    ends = sorted(tuple(segment[:, 1]) for c in axes.collections for segment in c.get_segments())
    assert ends == [(25, 26), (26.5, 27.5), (27, 29), (29.0, 30.0)]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["A", "D"]
    assert figure.alt.startswith("Deeper: top-1 error, % against weight layers. one scale: 29.6 at A, 27 at D.")
    assert_legible(figure)


def test_logarithmic_axes_have_plain_numbers():
    figure = plots.lines(
        {"LeNet": [(2**i, 900.0 * 2**i) for i in range(9)]}, x="batch", y="images/s", title="t", log="xy"
    )
    (axes,) = figure.axes
    figure.lay_out()
    assert axes.get_xscale() == axes.get_yscale() == "log"
    ticks = [t.get_text() for t in axes.get_yticklabels()]
    assert len(ticks) >= 3 and not any("10^" in t or "e" in t for t in ticks)
    assert_legible(figure)


@pytest.mark.parametrize(
    ("series", "log", "message"),
    [
        ({}, "", "series must be a dict of 1 to 7"),
        ({"a": [(1, 2, 3)]}, "", r"a: its points must all be \(x, y\)"),
        ({"a": [(1, 2), (1, 2, 3, 4)]}, "", r"a: its points must all be \(x, y\)"),
        ({"a": [(1, math.nan)]}, "", "a: its points must be finite"),
        ({"a": [(1, 2, 1, 3), (4, 2, 3, 1)]}, "", "^a: low must be at most high, got low=3 and high=1 at x=4$"),
        ({"a": [(0, 1)]}, "x", "a: on a logarithmic x axis numbers must be above 0, got 0"),
        ({"a": [(1, 1)]}, "z", "log must be"),
    ],
)
def test_lines_that_cannot_be_drawn_are_refused(series, log, message):
    with pytest.raises(ValueError, match=message):
        plots.lines(series, x="x", y="y", title="t", log=log)


# --- fields -----------------------------------------------------------------------------------------------------------


def block_of(kernel_sizes):
    """Convolutions with positive weights and nothing between them: nothing is hidden."""
    layers = nn.Sequential(*(nn.Conv2d(1, 1, k, padding=k // 2, bias=False) for k in kernel_sizes)).double()
    for conv in layers:
        nn.init.ones_(conv.weight)
    return layers


def test_the_effective_field_is_the_gradient_of_the_middle():
    """Three box filters of side 3: how many ways lead from a pixel to the middle is 1 3 6 7 6 3 1, squared in 2D."""
    field = effective_field(block_of((3, 3, 3)), torch.rand(2, 1, 15, 15, dtype=torch.float64))
    ways = torch.tensor([1, 3, 6, 7, 6, 3, 1]) / 7
    expected = torch.zeros(15, 15)
    expected[4:11, 4:11] = ways[:, None] * ways
    torch.testing.assert_close(field, expected)


def test_the_effective_field_of_one_large_kernel_is_even_and_of_a_stack_is_not():
    images = torch.rand(4, 1, 21, 21, dtype=torch.float64)
    large, stack = (effective_field(block_of(k), images) for k in ((13,), (3,) * 6))
    assert torch.equal(large > 0, stack > 0) and int((large > 0).sum()) == 13**2
    assert large[large > 0].min() == 1 and stack[stack > 0].min() < 0.001


def test_the_effective_field_leaves_the_network_as_it_was():
    net = build(vgg_like((1, 1), (4, 8), norm="batch")).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    images = torch.randn(8, 1, 28, 28)
    state = torch.get_rng_state()
    with torch.inference_mode():
        one = effective_field(net.features, images)
    assert torch.equal(one, effective_field(net.features, images)) and torch.equal(state, torch.get_rng_state())
    assert net.training and all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters()) and images.grad is None


def test_scores_have_no_field():
    with pytest.raises(ValueError, match=r"layers must give feature maps .*, got shape \(1, 10\): leave out"):
        effective_field(build(LENET), torch.randn(1, 1, 28, 28))


def test_fields_are_framed_and_measured():
    mask, soft = torch.zeros(28, 28), torch.zeros(28, 28)
    mask[10:15, 8:15] = 1
    soft[5:18, 5:18] = 0.001
    soft[10:13, 10:13] = 1
    figure = plots.receptive_fields(torch.rand(1, 28, 28), {"mask": mask, "soft": soft})
    frames = [(p.get_xy(), p.get_width(), p.get_height()) for axes in figure.axes for p in axes.patches]
    assert frames == [((7.5, 9.5), 7, 5), ((4.5, 4.5), 13, 13)]
    assert figure.alt.endswith("mask sees 5×7 pixels; soft sees 13×13 pixels, half of it in 3×3")
    assert_legible(figure)


@pytest.mark.parametrize(
    ("image", "fields", "message"),
    [
        (torch.rand(2, 28, 28), {"a": torch.ones(28, 28)}, "image must have the shape"),
        (torch.rand(28, 28), {}, "fields must be a dict of 1 to 6"),
        (torch.rand(28, 28), {"a": torch.ones(8, 8)}, r"a: its field must have the image's shape \(28, 28\)"),
        (torch.rand(28, 28), {"a": torch.zeros(28, 28)}, "a: its field .* it sees nothing"),
        (torch.rand(28, 28), {"a": -torch.ones(28, 28)}, "a: its field must hold numbers of at least 0"),
    ],
)
def test_fields_that_cannot_be_drawn_are_refused(image, fields, message):
    with pytest.raises(ValueError, match=message):
        plots.receptive_fields(image, fields)
