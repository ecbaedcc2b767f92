"""utils/roofline.py and its pictures: costs against closed formulas, times that the tests set. Nothing asserts how fast
a machine is."""

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.collections import PathCollection
from matplotlib.colors import same_color
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from utils import roofline
from utils.architectures import LENET, VGG_SMALL
from utils.device import device_name
from utils.faults import OutOfMemory
from utils.models import build
from utils.plots.roofline import roofline as draw_roofline
from utils.plots.roofline import time_and_flops
from utils.plots.style import COLOURS, LessonFigure
from utils.roofline import Ceilings, LayerTimes, ceilings, layer_times

IMAGE = (3, 6, 6)
ORDER = ["0", "1", "2", "3", "4", "5", "6"]


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Dropout(0.5), nn.Flatten(),
        nn.Linear(16, 5),
    )  # fmt: skip


def measure(model, **options):
    return layer_times(model, **{"input_shape": IMAGE, "dtype": "float32", "repeats": 1, "seconds": 0} | options)


@pytest.fixture
def known(monkeypatch):
    """Every call is made once and takes 1 s, the next one 2 s, and so on; what was asked for is kept."""
    asked = []

    def time_repeats(call, device, *, repeats, seconds):
        call()
        asked.append((str(device), repeats, seconds))
        return [float(len(asked))] * repeats

    monkeypatch.setattr(roofline, "time_repeats", time_repeats)
    return asked


# --- what a layer costs -----------------------------------------------------------------------------------------------


def test_macs_are_those_of_the_formulas_for_the_whole_batch(known):
    found = measure(network(), batch_size=8).layers
    assert found.macs.tolist() == [8 * 4 * 4 * 4 * (3 * 3 * 3), 0, 0, 0, 0, 0, 8 * 16 * 5]


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2)])
def test_bytes_are_the_input_the_weights_and_the_output_in_the_dtype_computed_in(known, dtype, size):
    found = measure(network(), batch_size=8, dtype=dtype).layers
    image, after_conv, after_pool = 8 * 3 * 6 * 6, 8 * 4 * 4 * 4, 8 * 4 * 2 * 2
    assert found.bytes.tolist() == [
        size * (image + 4 * 3 * 3 * 3 + 4 + after_conv),
        size * 2 * after_conv + 4 * 4 * 4,  # batch norm's four numbers a channel stay float32
        size * 2 * after_conv,  # in place, but read and written all the same
        size * (after_conv + after_pool),
        0,  # dropout does nothing in evaluation mode
        size * 2 * after_pool,  # flattened from channels_last, which is a copy
        size * (after_pool + 16 * 5 + 5 + 8 * 5),
    ]


def test_flattening_what_is_flat_moves_nothing(known):
    found = measure(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Identity()), batch_size=2).layers
    assert found.bytes.tolist() == [4 * 2 * (3 * 36 + 3), 0, 0]
    assert found.intensity.isna().tolist() == [False, True, True]


def test_intensity_is_flops_per_byte_and_the_rate_is_flops_a_second(known):
    found = measure(network(), batch_size=8).layers
    assert (found.flops_per_s * found.seconds).tolist() == pytest.approx((2 * found.macs).tolist())
    moved = found[found.bytes > 0]
    assert (moved.intensity * moved.bytes).tolist() == pytest.approx((2 * moved.macs).tolist())


def test_a_dense_layers_intensity_grows_with_the_batch():
    one, many = (measure(build(LENET), input_shape=None, batch_size=size).layers for size in (1, 64))
    dense = one.kind == "dense"
    assert (one.intensity[dense] < 0.5).all(), "each weight, of four bytes, is used once"
    assert (many.intensity[dense] > 4 * one.intensity[dense]).all()


# --- which layers -----------------------------------------------------------------------------------------------------


def test_each_layer_has_one_row_in_the_order_in_which_they_run(known):
    found = measure(network()).layers
    assert found.name.tolist() == ORDER
    assert found.kind.tolist() == ["conv", "norm", "activation", "pool", "dropout", "flatten", "dense"]
    assert found.layer[0] == "3×3, 3 → 4, padding 0" and found.layer[6] == "16 → 5"
    assert list(found) == [
        "name", "kind", "layer", "macs", "bytes", "seconds", "share", "intensity", "flops_per_s",
    ]  # fmt: skip


@pytest.mark.parametrize("architecture", [LENET, VGG_SMALL["VGG (2,2)"]], ids=lambda a: a.label)
def test_a_built_network_says_itself_which_images_it_takes(known, architecture):
    net = build(architecture)
    found = layer_times(net, dtype="float32", batch_size=2)
    leaves = [name for name, module in net.named_modules() if not list(module.children())]
    assert found.layers.name.tolist() == leaves
    assert found.input_shape == (1, 28, 28)


class Residual(nn.Module):
    """One layer twice, one never, and a sum that no layer does."""

    def __init__(self):
        super().__init__()
        self.never, self.twice, self.relu = nn.Linear(2, 2), nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()

    def forward(self, x):
        return self.relu(x + self.twice(self.twice(x)))


def test_a_layer_that_runs_twice_has_two_rows_and_one_that_never_runs_has_none(known):
    found = measure(Residual(), batch_size=2)
    assert found.layers.name.tolist() == ["twice", "twice", "relu"]
    assert found.layers.macs.tolist() == [2 * 36 * 3 * 3 * 9] * 2 + [0]
    assert found.layers.seconds.tolist() == [2, 3, 4] and found.whole_seconds == 1


def test_a_network_that_is_one_layer_has_its_classs_name(known):
    assert measure(nn.Conv2d(3, 2, 1)).layers.name.tolist() == ["Conv2d"]


def test_a_network_that_runs_other_layers_for_a_batch_is_refused(known):
    class Fickle(Residual):
        def forward(self, x):
            return self.relu(x) if len(x) > 1 else self.twice(x)

    with pytest.raises(ValueError, match="must run the same layers for a batch as for one image"):
        measure(Fickle(), batch_size=2)


# --- the ritual -------------------------------------------------------------------------------------------------------


def test_the_whole_and_each_layer_are_timed_and_shares_are_of_the_sum(known):
    found = measure(network(), batch_size=8, repeats=3, seconds=0.5)
    assert known == [("cpu", 3, 0.5)] * 8, "the whole, then seven layers"
    assert found.whole_seconds == 1 and found.layers.seconds.tolist() == [2, 3, 4, 5, 6, 7, 8]
    assert found.parts_seconds == 35
    assert found.layers.share.tolist() == pytest.approx([s / 35 for s in (2, 3, 4, 5, 6, 7, 8)])


def test_a_time_is_the_median_of_the_repeats(monkeypatch):
    monkeypatch.setattr(roofline, "time_repeats", lambda call, device, **_: [8.0, 1.0, 2.0])
    found = measure(network())
    assert found.whole_seconds == 2 and set(found.layers.seconds) == {2}


def test_what_holds_the_machine_up_for_a_moment_falls_on_no_layer(monkeypatch):
    """Five rounds, of which the second is disturbed while two layers are timed: the median of the rounds counts."""
    times = itertools.count()
    disturbed = {8 + 3, 8 + 4}  # the whole and seven layers are a round
    monkeypatch.setattr(roofline, "time_repeats", lambda call, device, **_: [50.0 if next(times) in disturbed else 1.0])
    found = measure(network(), rounds=5)
    assert next(times) == 40 and found.whole_seconds == 1 and set(found.layers.seconds) == {1.0}


class Doubling(nn.Module):
    def forward(self, x):
        return x.mul_(2)


class Keep(nn.Module):
    def __init__(self):
        super().__init__()
        self.given = []

    def forward(self, x):
        self.given.append(x.clone())
        return x


def test_what_works_in_place_is_timed_on_a_copy_of_its_own():
    keep = Keep()
    layer_times(nn.Sequential(nn.Conv2d(3, 4, 3), Doubling(), keep), IMAGE, dtype="float32", repeats=2, seconds=0)
    first, *others = keep.given
    assert others and all(torch.equal(first, other) for other in others), (
        "the layers behind it are given what they always are"
    )


def test_what_works_in_place_is_counted_as_read_and_written(known):
    found = measure(nn.Sequential(nn.Conv2d(3, 4, 3), Doubling()), batch_size=2).layers
    assert found.bytes[1] == 2 * 4 * (2 * 4 * 4 * 4)


def test_layers_run_in_inference_mode_channels_last_and_in_the_dtype_asked_for(known):
    seen = []

    class Look(nn.Module):
        def forward(self, x):
            seen.append((x.dtype, x.is_contiguous(memory_format=torch.channels_last), self.training))
            return x

    measure(nn.Sequential(nn.Conv2d(3, 4, 3), Look()), batch_size=2, dtype="bfloat16")
    assert len(seen) > 1 and set(seen[1:]) == {(torch.bfloat16, True, False)}, "but for the first, on shapes alone"


class Casts(TorchDispatchMode):
    """Counts tensors that are turned into another dtype."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function in (torch.ops.aten.to.dtype, torch.ops.aten._to_copy.default)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("is_frozen", [False, True])
def test_a_layer_casts_as_often_as_it_does_in_a_pass_and_so_does_the_whole(monkeypatch, is_frozen):
    counts = []

    def time_repeats(call, device, **_):
        counts.append([])
        for _ in range(3):
            with Casts() as casts:
                call()
            counts[-1].append(casts.count)
        return [1.0]

    monkeypatch.setattr(roofline, "time_repeats", time_repeats)
    net = network().requires_grad_(not is_frozen)
    measure(net, batch_size=8, dtype="bfloat16")
    whole, *layers = counts
    assert layers == [[3] * 3, *[[0] * 3] * 5, [2] * 3], "the images, and two weights and two biases"
    assert whole == [5] * 3, "in every call, not in the first alone"


# --- what is left behind ----------------------------------------------------------------------------------------------


def hooks_of(model):
    return [
        len(hooks)
        for module in model.modules()
        for hooks in (module._forward_pre_hooks, module._forward_hooks, module._backward_hooks)
    ]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("is_training", [True, False])
def test_the_network_stays_as_it_was(is_training, dtype):
    net = network().train(is_training)
    seen = []
    net[0].register_forward_hook(lambda *_: seen.append(1))
    before, hooks = {name: t.clone() for name, t in net.state_dict().items()}, hooks_of(net)
    torch.manual_seed(3)
    numbers = torch.rand(3)
    torch.manual_seed(3)
    measure(net, batch_size=4, dtype=dtype)
    assert torch.equal(torch.rand(3), numbers), "torch's global random numbers too"
    assert all(module.training is is_training for module in net.modules())
    assert hooks_of(net) == hooks and seen
    assert all(torch.equal(t, before[name]) and not t.is_inference() for name, t in net.state_dict().items())
    net(torch.ones(2, *IMAGE)).sum().backward()  # it can still be trained
    assert net[0].weight.grad is not None and not torch.is_autocast_enabled("cpu")


def test_memory_that_runs_out_is_named_and_leaves_the_network_as_it_was(monkeypatch):
    net, calls = network(), []

    def time_repeats(call, device, **_):
        calls.append(call)
        if len(calls) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return [1.0]

    monkeypatch.setattr(roofline, "time_repeats", time_repeats)
    with pytest.raises(OutOfMemory, match=r"while layers were timed, with a batch of 9 images .* smaller batch_size"):
        measure(net, batch_size=9)
    assert net.training and not any(hooks_of(net))


def test_the_stamp_says_what_it_was_measured_under(known, monkeypatch):
    monkeypatch.setattr(roofline, "device_name", lambda where: f"a fine {where.type}")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    monkeypatch.setattr(roofline, "versions", lambda: {"torch": "2.11.0"})
    found = measure(network(), batch_size=4, dtype="bfloat16")
    assert (found.batch_size, found.dtype, found.device, found.threads) == (4, "bfloat16", "a fine cpu", 7)
    assert found.versions == {"torch": "2.11.0"} and found.input_shape == IMAGE


def test_the_table_in_words_has_all_layers_their_sum_and_the_whole(known):
    found = measure(network(), batch_size=8)
    words = found.in_words()
    assert words.index.tolist() == [*ORDER, "sum of the parts", "whole network"]
    assert words.MACs.tolist() == ["13,824", "0", "0", "0", "0", "0", "640", "14,464", ""]
    assert words.ms.tolist()[-3:] == ["8,000.000", "35,000.000", "1,000.000"]
    assert "A batch of 8, float32" in repr(found) and "<table" in found._repr_html_()


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        *(({"batch_size": bad}, f"batch_size must be a whole number of at least 1, got {bad!r}")
          for bad in (0, -8, 2.0, "8", True, None)),
        ({"repeats": 0}, "repeats must be a whole number of at least 1, got 0"),
        ({"rounds": 0}, "rounds must be a whole number of at least 1, got 0"),
        *(({"seconds": bad}, f"seconds must be a number of at least 0, got {bad!r}") for bad in (-1, math.nan, "1")),
        ({"dtype": "bf16"}, "dtype must be one of 'auto', 'float32', 'bfloat16', 'float16', got 'bf16'"),
        ({"input_shape": (6, 6)}, "input_shape must be one image's (channels, height, width), got (6, 6)"),
        ({"input_shape": None}, "input_shape must be given: this network doesn't say which images it takes"),
    ],
)  # fmt: skip
def test_an_argument_that_makes_no_sense_is_an_error(known, options, said):
    net = network()
    with pytest.raises(ValueError) as caught:
        measure(net, **options)
    assert str(caught.value).startswith(said)
    assert net.training and not known, "told before anything is measured"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (LENET, r"model must be a Module, such as build\(LENET\), got"),
        (nn.Sequential(nn.LazyLinear(3)), "Lazy layers"),
        (nn.Sequential(nn.Flatten(), nn.Linear(7, 2)), r"1, dense 7 → 2, given \(108,\)"),
    ],
)
def test_what_is_no_network_or_does_not_fit_is_an_error(known, model, said):
    with pytest.raises(ValueError, match=said):
        measure(model)


# --- the roof ---------------------------------------------------------------------------------------------------------

ROOF = Ceilings(flops_per_s=100e9, bytes_per_s=20e9, dtype="float32", device="a device", threads=2)


def test_both_ceilings_meet_at_the_ridge():
    assert ROOF.ridge == 5
    assert ROOF.attainable(ROOF.ridge) == 100e9
    assert [ROOF.attainable(x) for x in (0.5, 2.5, 5.1, 1000)] == [10e9, 50e9, 100e9, 100e9]


def test_the_ceilings_are_the_best_of_all_timings(monkeypatch):
    monkeypatch.setattr(roofline, "COPIED", 2**20)
    calls = []

    def time_repeats(call, device, **_):
        calls.append(call())
        return [2.0, 0.5, 1.0] if len(calls) != 2 else [0.2, 1.0]

    monkeypatch.setattr(roofline, "time_repeats", time_repeats)
    found = ceilings("cpu", "bfloat16")
    assert found.flops_per_s == 2 * 512**3 / 0.2, "of the product and the convolutions, the fastest"
    assert found.bytes_per_s == 2 * 2**20 / 0.5, "read and written"
    assert (found.dtype, found.device, found.threads) == ("bfloat16", device_name("cpu"), torch.get_num_threads())
    product, convolution, of_3x3, copy = calls
    assert product.numel() == convolution.numel() == 512**2, "as slow as that, no larger ones are tried"
    assert of_3x3.shape[1:] == (32, 16, 16)
    assert {t.dtype for t in calls} == {torch.bfloat16} and copy.nbytes == 2**20 and (copy == 1).all()


def test_matrices_grow_until_a_product_takes_long(monkeypatch):
    sides = []

    def products(side, device, dtype):
        sides.append(side)
        return [(2 * side**3, lambda: side)]

    monkeypatch.setattr(roofline, "_products", products)
    monkeypatch.setattr(roofline, "time_repeats", lambda call, device, **_: [2 * call() ** 3 / 1e12])
    assert roofline._most_flops(torch.device("cpu"), torch.float32) == pytest.approx(1e12)
    assert sides == [512, 1024, 2048], "2 · 4096³ FLOPs take 0.14 s at 10¹² a second"


def test_a_convolution_and_a_product_do_the_same_arithmetic():
    (_, product), (_, convolution), _ = roofline._products(64, torch.device("cpu"), torch.float32)
    (a, b), (pixels, kernels) = product.args, convolution.args
    assert torch.allclose(product(), a @ b)
    assert torch.allclose(convolution().permute(0, 2, 3, 1).reshape(64, 64), a @ b.T, atol=1e-4)
    assert pixels.is_contiguous(memory_format=torch.channels_last) and kernels.shape == (64, 64, 1, 1)


@pytest.mark.parametrize("side", [64, 512])
def test_the_flops_of_what_is_timed_are_those_that_torch_counts(side):
    counts = []
    for flops, call in roofline._products(side, torch.device("cpu"), torch.float32):
        with FlopCounterMode(display=False) as counter:
            call()
        counts.append(flops)
        assert flops == counter.get_total_flops()
    assert counts[2] == pytest.approx(counts[0], rel=0.15)


def test_measured_for_real(monkeypatch):
    monkeypatch.setattr(roofline, "SIDES", (64,))
    monkeypatch.setattr(roofline, "COPIED", 2**20)
    roof, times = ceilings("cpu", "float32"), measure(network(), batch_size=8)
    assert 0 < roof.flops_per_s < math.inf and 0 < roof.bytes_per_s < math.inf
    assert (times.layers.seconds > 0).all() and times.whole_seconds > 0
    assert isinstance(draw_roofline(times, roof), LessonFigure)


def test_an_unknown_dtype_has_no_ceilings():
    with pytest.raises(ValueError, match="dtype must be one of 'auto'"):
        ceilings("cpu", "int8")


# --- the pictures -----------------------------------------------------------------------------------------------------


def timed(*rows, batch_size=1, whole_seconds=0.5, **stamp):
    """LayerTimes of rows (kind, MACs, bytes, seconds)."""
    table = pd.DataFrame(rows, columns=["kind", "macs", "bytes", "seconds"])
    table.insert(0, "name", [str(i) for i in range(len(rows))])
    table.insert(2, "layer", table.kind)
    table["share"] = table.seconds / table.seconds.sum()
    table["intensity"], table["flops_per_s"] = 2 * table.macs / table.bytes, 2 * table.macs / table.seconds
    stamp = {"input_shape": (1, 8, 8), "dtype": "float32", "device": "a device", "threads": 2, "versions": {}} | stamp
    return LayerTimes(table, whole_seconds, batch_size, **stamp)


SMALL = timed(
    ("conv", 10**9, 10**8, 0.1), ("activation", 0, 10**8, 0.02), ("pool", 0, 10**8, 0.05),
    ("conv", 4 * 10**9, 10**8, 0.2), ("dense", 5 * 10**7, 4 * 10**8, 0.13),
)  # fmt: skip
LARGE = timed(
    ("conv", 10**10, 10**9, 0.5), ("activation", 0, 10**9, 0.2), ("pool", 0, 10**9, 0.5),
    ("conv", 4 * 10**10, 10**9, 1.0), ("dense", 5 * 10**8, 4 * 10**8, 0.02), batch_size=10,
)  # fmt: skip
BOTH = {"batch 1": SMALL, "batch 10": LARGE}


def markers(figure):
    found = [c for c in figure.axes[0].collections if isinstance(c, PathCollection)]
    return {c.get_gid(): c for c in found}


def place(marker):
    (xy,) = marker.get_offsets()
    return tuple(map(float, xy))


def named(figure, what):
    """Texts whose gid begins with `what`, by what follows it."""
    texts = [t for t in figure.axes[0].texts if (t.get_gid() or "").startswith(what)]
    return {t.get_gid().removeprefix(what): t for t in texts}


def boxes(figure):
    """By name: what every label, ceiling's name and marker covers, as left, bottom, right, top in pixels."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    found = {}
    for text in (*named(figure, "label: ").values(), *named(figure, "ceiling: ").values()):
        corners = text.get_window_extent(renderer)
        found[text.get_text()] = (corners.x0, corners.y0, corners.x1, corners.y1)
    for name, marker in markers(figure).items():
        x, y = figure.axes[0].transData.transform(place(marker))
        found[f"marker {name}"] = (x - 4, y - 4, x + 4, y + 4)
    return found


def said(figure):
    """All texts that a reader sees."""
    return " ".join(t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def test_points_stand_at_intensity_and_rate_in_their_kinds_colour():
    found = markers(draw_roofline(SMALL, ROOF))
    assert {name: place(marker) for name, marker in found.items()} == {
        "conv 1": pytest.approx((20, 20e9)), "conv 2": pytest.approx((80, 40e9)),
        "dense 3": pytest.approx((0.25, 1e8 / 0.13)),
    }  # fmt: skip
    assert same_color(found["conv 1"].get_facecolor(), COLOURS["convolution"])
    assert same_color(found["dense 3"].get_facecolor(), COLOURS["dense"])


def test_the_roof_rises_with_the_bandwidth_and_is_flat_from_the_ridge():
    figure = draw_roofline(SMALL, ROOF)
    axes = figure.axes[0]
    (roof,) = [line for line in axes.lines if line.get_gid() == "roof"]
    x, y = map(np.asarray, roof.get_data())
    assert y.tolist() == pytest.approx([20e9 * x[0], 100e9, 100e9]) and x[1] == 5
    assert (x[0], x[2]) == pytest.approx(axes.get_xlim()), "from edge to edge"
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert set(named(figure, "ceiling: ")) == {"20 GB/s", "100 GFLOP/s"}
    assert axes.get_ylabel() == "GFLOP/s" and axes.get_xlabel() == "FLOPs per byte moved"


def test_several_batch_sizes_have_their_own_markers_one_label_and_a_line():
    figure = draw_roofline(BOTH, ROOF)
    found = markers(figure)
    assert set(found) == {f"{batch}: {layer}" for batch in BOTH for layer in ("conv 1", "conv 2", "dense 3")}
    assert same_color(found["batch 1: conv 1"].get_facecolor(), "white")
    assert same_color(found["batch 1: conv 1"].get_edgecolor(), COLOURS["convolution"])
    assert same_color(found["batch 10: conv 1"].get_facecolor(), COLOURS["convolution"])
    assert set(named(figure, "label: ")) == {"conv 1", "conv 2", "dense 3"}
    (line,) = [line for line in figure.axes[0].lines if line.get_gid() == "line: dense 3"]
    ends = [place(found[f"{batch}: dense 3"]) for batch in BOTH]
    assert np.transpose(line.get_data()) == pytest.approx(np.array(ends))
    assert "○ batch 1    ● batch 10" in said(figure)


@pytest.mark.parametrize("times", [SMALL, BOTH], ids=["one", "two"])
@pytest.mark.parametrize("roof", [ROOF, replace(ROOF, flops_per_s=30e9), replace(ROOF, flops_per_s=60e12)], ids=str)
def test_no_name_covers_another_or_a_marker_and_all_are_on_the_page(times, roof):
    figure = draw_roofline(times, roof)
    found = boxes(figure)
    texts = {name: box for name, box in found.items() if not name.startswith("marker")}
    for name, (left, bottom, right, top) in texts.items():
        assert left >= 0 and bottom >= 0 and right <= figure.bbox.x1 and top <= figure.bbox.y1, f"{name} is cut off"
        for other, box in found.items():
            apart = right <= box[0] or box[2] <= left or top <= box[1] or box[3] <= bottom
            assert other == name or apart, f"{name} on {other}"


def test_layers_without_flops_and_points_above_the_roof_are_told():
    figure = draw_roofline(SMALL, ROOF)
    assert "2 layers without FLOPs" in said(figure) and "above the roof" not in said(figure)
    assert "a device, 2 threads, float32" in said(figure)
    assert "1 point above the roof: data still in the cache" in said(
        draw_roofline(SMALL, replace(ROOF, flops_per_s=30e9))
    )
    assert "without FLOPs" not in said(draw_roofline(timed(("conv", 10, 10, 1.0)), ROOF))


def test_the_rooflines_alternative_text_has_the_roof_and_every_point():
    figure = draw_roofline(BOTH, ROOF, title="Two batches")
    assert figure.title == "Two batches" and "Two batches" in said(figure)
    assert figure.alt == (
        "Two batches. The roof rises with 20 GB/s up to 5 FLOPs per byte and is flat from there, at 100 GFLOP/s "
        "(float32, a device). "
        "batch 1: conv 1 20 GFLOP/s at 20 FLOPs per byte, 20% of the roof; conv 2 40 GFLOP/s at 80 FLOPs per byte, 40% "
        "of the roof; dense 3 769 MFLOP/s at 0.25 FLOPs per byte, 15% of the roof. "
        "batch 10: conv 1 40 GFLOP/s at 20 FLOPs per byte, 40% of the roof; conv 2 80 GFLOP/s at 80 FLOPs per byte, "
        "80% of the roof; dense 3 50 GFLOP/s at 2.5 FLOPs per byte, 100% of the roof."
    )


@pytest.mark.parametrize(
    ("times", "roof", "words"),
    [
        ({}, ROOF, "times must hold 1 to 4 measurements, or they can't be told apart: 0"),
        ({str(i): SMALL for i in range(5)}, ROOF, "times must hold 1 to 4 .*: 5"),
        (SMALL.layers, ROOF, r"times must be what layer_times\(model\) gives"),
        ({"a": SMALL, "b": 3}, ROOF, r"times\['b'\] must be what layer_times\(model\) gives, got 3"),
        (SMALL, 100e9, r"ceilings must be what ceilings\(device\) measures, got 1"),
        (SMALL, replace(ROOF, dtype="bfloat16"),
         r"float32 with 2 threads and a device in bfloat16 with 2 threads: write ceilings\(device, 'float32'\)"),
        (SMALL, replace(ROOF, device="another"), "must be measured alike, got a device in .* and another in"),
        (SMALL, replace(ROOF, threads=1), "with 2 threads and a device in float32 with 1 thread:"),
        (BOTH | {"c": timed(("conv", 1, 1, 1.0))}, ROOF, "of one network, at several batch sizes"),
        (timed(("pool", 0, 8, 1.0)), ROOF, "must have a convolution or a dense layer to draw, got none"),
        (timed(("conv", 1, 8, 0.0), ("pool", 0, 8, 1.0)), ROOF, "took no time at all"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(times, roof, words):
    with pytest.raises(ValueError, match=words):
        draw_roofline(times, roof)


def bars(axes):
    return [bar.get_width() for bar in axes.patches]


def rows(figure):
    """The names in the middle."""
    return [t.get_text() for t in figure.axes[1].texts if t.get_position() == (-52, 0)]


def test_bars_to_the_left_are_flops_and_to_the_right_time():
    figure = time_and_flops(SMALL)
    left, right = figure.axes
    assert rows(figure) == ["conv 1", "activation 1", "pool 1", "conv 2", "dense 3"]
    flops, seconds = np.array([1, 0, 0, 4, 0.05]) / 5.05, np.array([10, 2, 5, 20, 13]) / 50
    assert bars(left) == pytest.approx((-100 * flops).tolist())
    assert bars(right) == pytest.approx((100 * seconds).tolist())
    colours = [COLOURS[role] for role in ("convolution", "grey", "pooling", "convolution", "dense")]
    for axes in figure.axes:
        assert all(same_color(bar.get_facecolor(), c) for bar, c in zip(axes.patches, colours, strict=True))
    assert [t.get_text() for t in left.texts] == ["20 %", "0", "0", "79 %", "0.99 %"]
    assert "share of 10.1 GFLOPs, one image" in said(figure) and "share of 500 ms" in said(figure)


def test_layers_that_cost_almost_nothing_are_one_row():
    many = timed(("conv", 10**6, 8, 0.9), *[("activation", 0, 8, 0.002)] * 30, ("dense", 10**3, 8, 0.04), batch_size=4)
    figure = time_and_flops(many)
    assert rows(figure) == ["conv 1", "dense 2", "the rest (30)"]
    assert sum(bars(figure.axes[0])) == pytest.approx(-100) and sum(bars(figure.axes[1])) == pytest.approx(100)
    assert bars(figure.axes[1])[2] == pytest.approx(6)
    assert "a batch of 4" in said(figure)


def test_one_layer_alone_keeps_its_name():
    figure = time_and_flops(timed(("flatten", 0, 0, 0.0), ("conv", 10**6, 8, 1.0)))
    assert rows(figure) == ["flatten", "conv 1"]


def test_the_bars_alternative_text_has_every_row_and_the_whole():
    figure = time_and_flops(timed(("conv", 3, 8, 0.006), ("dense", 1, 8, 0.002), whole_seconds=0.0125), title="Both")
    assert figure.alt == (
        "Both. Each layer’s share of 8 FLOPs, one image, and share of 8 ms; in one go the whole network takes 12.5 ms. "
        "conv 1: 75.0% of the FLOPs and 75.0% of the time; dense 2: 25.0% of the FLOPs and 25.0% of the time."
    )
    assert figure.title == "Both" and "the whole network takes 12.5 ms" in said(figure)


@pytest.mark.parametrize("bad", [SMALL.layers, {"batch 1": SMALL}, None, SimpleNamespace(layers=[])])
def test_bars_are_drawn_of_layer_times_alone(bad):
    with pytest.raises(ValueError, match=r"times must be what layer_times\(model\) gives"):
        time_and_flops(bad)
