"""The roofline explorer: what layers do without running them, how that is drawn, and the widget. Times are set here."""

import math
from dataclasses import replace
from html import unescape

import numpy as np
import pandas as pd
import pytest
import torch
from for_sheets import assert_readable
from torch import nn

from utils import roofline, throughput
from utils.architectures import ALEXNET_SMALL, LENET, LENET_BOOK, VGG, VGG_SMALL, Conv
from utils.device import device_name
from utils.faults import OutOfMemory
from utils.models import build
from utils.plots.roofline import numbered
from utils.plots.roofline_sheet import roofline_sheet, shares_sheet
from utils.plots.sheet import Box, Stroke, Words, text_width
from utils.roofline import (
    Ceilings,
    LayerTimes,
    layer_times,
    layer_work,
    seconds_to_measure,
    time_without_flops,
    why_slow,
)
from utils.widgets import RooflineExplorer, roofline_explorer
from utils.widgets import roofline as widget

pytestmark = pytest.mark.usefixtures("one_thread")
ROOF = Ceilings(flops_per_s=100e9, bytes_per_s=20e9, dtype="float32", device="a device", threads=1)


# --- what layers do, without running them -----------------------------------------------------------------------------

NETWORKS = {
    "LeNet (book)": LENET_BOOK,
    "AlexNet small": ALEXNET_SMALL,
    "VGG (1,1) + BN": VGG_SMALL["VGG (1,1)"].change(norm="batch"),
    "LRN, GELU": VGG_SMALL["VGG (1,1)"].change(norm="lrn", activation="gelu"),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_work_is_what_layer_times_finds_when_the_network_runs(name, batch_size, dtype):
    net = build(NETWORKS[name])
    work = layer_work(build(NETWORKS[name], device="meta"), batch_size=batch_size, dtype=dtype)
    found = layer_times(net, batch_size=batch_size, dtype=dtype, repeats=1, seconds=0).layers
    pd.testing.assert_frame_equal(work, found[list(work)])
    assert list(work) == ["name", "kind", "layer", "macs", "bytes", "intensity"]


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.twice, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(x + self.twice(self.twice(x)))


def test_any_network_will_do_and_stays_as_it_is():
    net = Residual()
    before, random = {name: t.clone() for name, t in net.state_dict().items()}, torch.get_rng_state()
    work = layer_work(net, (3, 8, 8), batch_size=4, dtype="float32")
    assert work.name.tolist() == ["twice", "twice", "relu"]
    image, weights = 4 * 3 * 64, 3 * 3 * 9 + 3
    assert work.bytes.tolist() == [4 * (2 * image + weights)] * 2 + [4 * 2 * image]
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items()) and net.training
    assert torch.equal(torch.get_rng_state(), random)
    assert net(torch.ones(1, 3, 8, 8)).requires_grad, "nothing is left switched off"


def test_a_network_that_no_memory_would_hold_is_no_trouble():
    wide = VGG["A"].scaled(64)
    work = layer_work(build(wide, device="meta"), batch_size=512, dtype="float32")
    first = work[work.kind == "dense"].iloc[0]
    inputs, outputs = 512 * 64 * 49, 4096 * 64
    assert first.bytes == 4 * (512 * inputs + inputs * outputs + outputs + 512 * outputs)
    assert first.intensity == pytest.approx(2 * 512 * inputs * outputs / first.bytes)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1"),
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"input_shape": (1, 4)}, "input_shape must be"),
    ],
)
def test_work_that_makes_no_sense_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        layer_work(build(LENET, device="meta"), **options)


def table(*rows):
    """Work of rows (kind, MACs, bytes)."""
    made = pd.DataFrame(rows, columns=["kind", "macs", "bytes"])
    made.insert(0, "name", [f"layers.{i}" for i in range(len(rows))])
    made.insert(2, "layer", [f"a {kind}" for kind in made.kind])
    made["intensity"] = 2 * made.macs / made.bytes
    return made


def timed(work, seconds, **stamp):
    layers = work.assign(seconds=seconds)
    layers["share"] = layers.seconds / layers.seconds.sum()
    layers["flops_per_s"] = 2 * layers.macs / layers.seconds
    stamp = {"dtype": "float32", "device": "a device", "threads": 1} | stamp
    return LayerTimes(layers, sum(seconds), 1, (1, 8, 8), versions={}, **stamp)


WORK = table(
    ("conv", 10**9, 10**8), ("activation", 0, 10**8), ("pool", 0, 4 * 10**7), ("dense", 10**7, 2 * 10**7),
    ("dense", 10**6, 2 * 10**6),
)  # fmt: skip
NAMES = ["conv 1", "activation 1", "pool 1", "dense 2", "dense 3"]
# On the roof: 20 ms of arithmetic, 5 and 2 ms of moving, 1 ms, 0.1 ms.
TIMES = timed(WORK, [0.04, 0.01, 0.005, 0.002, 0.003])


def test_on_the_roof_a_layer_takes_as_long_as_arithmetic_or_moving_whichever_is_longer():
    assert numbered(WORK) == NAMES
    least = ROOF.least_seconds(WORK)
    assert least.tolist() == pytest.approx([0.02, 0.005, 0.002, 0.001, 0.0001])
    with_macs = WORK[WORK.macs > 0]
    rates = (2 * with_macs.macs / least[with_macs.index]).tolist()
    assert rates == pytest.approx([ROOF.attainable(x) for x in with_macs.intensity])


@pytest.mark.parametrize(("one", "seconds"), [(0.03, 0.1), (0.001, 0.1), (0.5, 0.01)])
def test_how_long_a_measurement_takes_is_known_before(monkeypatch, one, seconds):
    """Against the ritual itself, on a clock that each call moves on by `one`."""
    clock = [0.0]
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: clock[0])
    throughput.time_repeats(lambda: clock.__setitem__(0, clock[0] + one), "cpu", repeats=3, seconds=seconds)
    work = table(("conv", round(one * ROOF.flops_per_s / 2 / roofline.SLOWER), 1))
    told = seconds_to_measure(work, ROOF, repeats=3, seconds=seconds)
    assert told == pytest.approx(2 * clock[0], rel=0.25), "one layer, and the network, which is that layer"


# --- in words ---------------------------------------------------------------------------------------------------------


def test_a_dense_layer_at_batch_one_waits_for_memory():
    words = why_slow(WORK, ROOF, batch_size=1, names=NAMES)
    assert words == (
        "dense 2 (layers.3, a dense) uses each weight that it reads for one image; FLOPs per byte moved: 1. Below 5 "
        "memory is the limit, and allows 20 % of what the arithmetic can do."
    )


def test_in_a_large_batch_arithmetic_is_the_limit():
    words = why_slow(table(("dense", 10**9, 10**8)), ROOF, batch_size=64, names=["dense 1"])
    assert "for 64 images; FLOPs per byte moved: 20. Above 5 arithmetic is the limit, and not memory." in words


def test_measured_the_slowest_dense_layer_is_told_with_its_shares():
    words = why_slow(WORK, ROOF, batch_size=1, names=NAMES, times=TIMES)
    assert words.startswith("dense 3 (layers.4")
    assert "Measured: 0.099 % of the FLOPs, 5 % of the time; it reaches 3.3 % of what its place allows." in words
    assert words.endswith("how well the library’s code suits the layer’s shape counts, too."), "3 ms is no start"
    fast = timed(WORK, [0.04, 0.01, 0.005, 0.002, 0.0002], dtype="bfloat16")
    words = why_slow(WORK, ROOF, batch_size=1, names=NAMES, times=fast)
    assert words.endswith("it reaches 50 % of what its place allows.")
    tiny = table(("dense", 10**3, 10**3))
    for dtype, end in (
        ("bfloat16", "whatever it does, and its weights are rounded to bfloat16 first."),
        ("float32", "to start a layer takes time, whatever it does."),
    ):
        words = why_slow(tiny, ROOF, batch_size=1, names=["dense 1"], times=timed(tiny, [1e-5], dtype=dtype))
        assert words.endswith(end)


def test_without_a_dense_layer_nothing_is_said():
    assert why_slow(WORK[:3], ROOF, batch_size=1, names=NAMES[:3]) == ""


def test_the_time_of_layers_without_flops_is_told_by_kind():
    assert time_without_flops(TIMES) == "2 layers without FLOPs: 25 % of the time (activation 17 %, pool 8.3 %)."
    assert time_without_flops(timed(WORK[3:], [1.0, 1.0])) == ""
    assert time_without_flops(timed(WORK[1:4], [1e-4, 0.0, 1.0])) == "2 layers without FLOPs: 0.01 % of the time."


# --- the drawings -----------------------------------------------------------------------------------------------------


def marks(sheet, name):
    found = [mark for mark in sheet.named(f"{name}: ") if isinstance(mark, Box)]
    return {mark.name.partition(": ")[2]: mark for mark in found}


def middle(mark):
    return mark.x + mark.width / 2, mark.y + mark.height / 2


def ticks(sheet, anchor):
    """Numbers beside the axes: to the left ("end"), below ("middle"), with where they stand."""
    place = {"end": lambda m: m.y - 4, "middle": lambda m: m.x}[anchor]
    return {float(m.words.replace(",", "")): place(m) for m in sheet.named("tick") if m.anchor == anchor}


def place_of(value, scale):
    """Where a value stands on a log axis with these ticks: straight through the first and the last."""
    (low, start), *_, (high, end) = sorted(scale.items())
    return start + math.log(value / low) / math.log(high / low) * (end - start)


def test_hollow_marks_stand_on_the_roof_and_filled_ones_at_the_measured_rate():
    sheet = roofline_sheet(WORK, ROOF, TIMES, title="a network", notes=("a sentence", ""))
    across, up = ticks(sheet, "middle"), ticks(sheet, "end")
    hollow, filled = marks(sheet, "roof"), marks(sheet, "measured")
    assert set(hollow) == set(filled) == {"conv 1", "dense 2", "dense 3"}
    expected = {"conv 1": (20, 100, 50), "dense 2": (1, 20, 10), "dense 3": (1, 20, 2 / 3)}
    for name, (intensity, could, does) in expected.items():
        x = place_of(intensity, across)
        assert middle(hollow[name]) == pytest.approx((x, place_of(could, up)), abs=0.2)
        assert middle(filled[name]) == pytest.approx((x, place_of(does, up)), abs=0.2)
        assert hollow[name].fill == "white" and filled[name].fill == hollow[name].stroke
    assert filled["conv 1"].fill == "#0072B2" and filled["dense 2"].fill == "#E69F00"
    (roof,) = [mark for mark in sheet.named("roof") if isinstance(mark, Stroke)]
    assert roof.points[1] == pytest.approx((place_of(5, across), place_of(100, up)), abs=0.2), "the ridge"
    assert {"20 GB/s", "100 GFLOP/s", "a sentence", "GFLOP/s"} <= set(sheet.words())
    assert "conv 1 at 20 FLOPs per byte could do 100 GFLOP/s, does 50 GFLOP/s; dense 2" in sheet.alt


def test_without_a_measurement_all_marks_are_hollow():
    sheet = roofline_sheet(WORK, ROOF, title="")
    assert len(marks(sheet, "roof")) == 3 and not marks(sheet, "measured") and not sheet.named("gap")
    assert "measured" not in sheet.words() and "does" not in sheet.alt


def test_points_above_the_roof_are_told():
    """Clearly above, more than a tenth: then something is said about the roof as well."""
    # conv 1 would take 20 ms on the roof, dense 2 1 ms.
    said = {
        first: " ".join(roofline_sheet(WORK, ROOF, timed(WORK, [*first, 0.003]), title="").words())
        for first in ((0.01, 0.01, 0.005, 0.002), (0.0185, 0.01, 0.005, 0.002), (0.01, 0.01, 0.005, 0.0008))
    }
    clearly, slightly, two = said.values()
    assert "1 point above the roof: data still in the cache" in clearly
    assert clearly.endswith("It reaches 200 % of what its place allows: measure the roof anew.")
    assert "1 point above the roof" in slightly and "anew" not in slightly
    assert "2 points above the roof" in two and "The highest reaches 200 % of what its place allows" in two
    assert "above the roof" not in " ".join(roofline_sheet(WORK, ROOF, TIMES, title="").words())


def test_a_long_title_takes_several_lines_and_all_else_stands_lower():
    long = VGG["E"].scaled(0.3).label
    sheet, short = (roofline_sheet(WORK, ROOF, TIMES, title=title) for title in (f"{long}, a batch of 512", "VGG"))
    nothing_overlaps_or_is_cut_off(sheet)
    lines = sheet.named("title")
    assert " ".join(mark.words for mark in lines) == f"{long}, a batch of 512" and len(lines) > 1
    lower = lines[-1].y - lines[0].y
    assert sheet.height - short.height == lower
    for name, mark in marks(short, "measured").items():
        assert marks(sheet, "measured")[name].y == pytest.approx(mark.y + lower)


MARKS = ("roof: ", "measured: ")
NARROW_ROOM = 460  # pixels of a window: on what is wider, the smallest letters would shrink under 11


def nothing_overlaps_or_is_cut_off(sheet):
    assert_readable(sheet, widest=NARROW_ROOM)
    boxes = [(m.name, m.x, m.y, m.x + m.width, m.y + m.height) for m in sheet.marks if m.name.startswith(MARKS)]
    num_marks = len(boxes)  # which may lie on each other
    for mark in sheet.marks:
        if isinstance(mark, Words):
            width = text_width(mark.words, mark.size, bold=mark.bold)
            left = mark.x - width * {"start": 0, "middle": 0.5, "end": 1}[mark.anchor]
            boxes.append((mark.words, left, mark.y - 0.7 * mark.size, left + width, mark.y))
    for i, (name, *a) in enumerate(boxes):
        for other, *b in boxes[max(i + 1, num_marks) :]:
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            assert apart, f"{name} on {other}"


@pytest.mark.parametrize("roof", [ROOF, replace(ROOF, flops_per_s=60e12, bytes_per_s=2e12)], ids=["CPU", "GPU"])
@pytest.mark.parametrize("batch_size", [1, 32, 512])
@pytest.mark.parametrize("name", ["AlexNet small", "VGG-11 ⅛ + BN"])
def test_names_stand_clear_of_each_other_and_nothing_is_cut_off(name, batch_size, roof):
    work = layer_work(build(widget.SMALL[name], device="meta"), batch_size=batch_size, dtype="float32")
    for times in (None, timed(work, [1e-5] * len(work))):
        sheet = roofline_sheet(work, roof, times, title=name)
        nothing_overlaps_or_is_cut_off(sheet)
        nothing_overlaps_or_is_cut_off(shares_sheet(work, roof, times))
        assert len(sheet.named("label: ")) == (work.macs > 0).sum()


@pytest.mark.parametrize("device", ["Intel(R) Xeon(R) CPU @ 2.20GHz, 2 cores", "a very long name " * 8])
def test_a_device_with_a_long_name_is_named_in_full_inside_the_sheet(device):
    sheet = roofline_sheet(WORK, replace(ROOF, device=device, threads=2), TIMES, title="", notes=("a note",))
    nothing_overlaps_or_is_cut_off(sheet)
    stamp = " ".join(mark.words for mark in sheet.named("stamp"))
    assert stamp.split() == f"{device}, 2 threads, float32".split()


def test_shares_are_bars_of_one_scale():
    sheet = shares_sheet(WORK, ROOF, TIMES)
    flops, on_roof, measured = (marks(sheet, f"{what} bar") for what in ("FLOPs", "roof", "time"))
    longest = flops["conv 1"].width
    macs = np.array([1000, 0, 0, 10, 1]) / 1011
    least = np.array([20, 5, 2, 1, 0.1]) / 28.1
    seconds = np.array([40, 10, 5, 2, 3]) / 60
    for number, name in enumerate(NAMES):
        assert on_roof[name].width == pytest.approx(longest * least[number] / macs[0])
        assert measured[name].width == pytest.approx(longest * seconds[number] / macs[0])
        if macs[number]:
            assert flops[name].width == pytest.approx(longest * macs[number] / macs[0])
    assert set(flops) == {"conv 1", "dense 2", "dense 3"}, "none where there are no FLOPs"
    assert {"of 2.02 GFLOPs", "roof: 28.1 ms", "measured: 60 ms", "67 %"} <= set(sheet.words())
    assert "pool 1: 0.0% of the FLOPs, 7.1% of the time on the roof, 8.3% as measured" in sheet.alt


def test_layers_with_hardly_any_share_are_one_row():
    work = table(("conv", 10**9, 10**7), *[("activation", 0, 10**4)] * 5)
    sheet = shares_sheet(work, ROOF)
    assert [mark.words for mark in sheet.named("name")] == ["conv 1", "the rest (5)"]
    times = timed(work, [1.0, 0.5, 0.0, 0.0, 0.0, 0.0])
    assert [mark.words for mark in shares_sheet(work, ROOF, times).named("name")] == [
        "conv 1", "activation 1", "the rest (4)",
    ]  # fmt: skip


# --- the widget -------------------------------------------------------------------------------------------------------


@pytest.fixture
def here(monkeypatch):
    """A roof as if it had been measured here; timings are short."""
    monkeypatch.setattr(widget, "TIMED", 0.0)
    monkeypatch.setattr(widget, "ROUNDS", (1,))
    return replace(ROOF, device=device_name("cpu"), threads=torch.get_num_threads())


@pytest.fixture
def explorer(here):
    return RooflineExplorer(here, LENET, device="cpu")


def text(html):
    return unescape(html.value)


def test_it_begins_with_the_small_alexnet_one_image_at_a_time_and_measured(here):
    explorer = roofline_explorer(here, device="cpu")
    assert explorer.architecture == ALEXNET_SMALL and explorer.batch_size == 1
    assert explorer.times.batch_size == 1 and explorer.times.dtype == "float32"
    sheet = explorer.sheet()
    assert set(marks(sheet, "measured")) == {f"conv {n}" for n in range(1, 6)} | {f"dense {n}" for n in (6, 7, 8)}
    words = " ".join(sheet.words())
    assert "AlexNet small, one image at a time" in words and "Measured: " in words and "without FLOPs" in words
    figure = explorer.picture()
    assert figure.title == "AlexNet small, one image at a time" and "could do" in figure.alt
    assert {"roof: dense 6", "measured: dense 6"} <= {patch.get_gid() for patch in figure.axes[0].patches}


def test_the_batch_slider_moves_the_hollow_marks_and_measures_nothing(explorer, monkeypatch):
    def fails(*args, **kwargs):
        raise AssertionError("measured")

    monkeypatch.setattr(widget, "layer_times", fails)
    seen, scales = [], []
    for batch in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512):
        explorer.controls["batch_size"].value = batch
        expected = layer_work(build(LENET), batch_size=batch, dtype="float32")
        assert explorer.batch_size == batch and explorer.work.equals(expected)
        sheet = explorer.sheet()
        assert not marks(sheet, "measured")
        assert sheet.title == ("LeNet, one image at a time" if batch == 1 else f"LeNet, a batch of {batch}")
        seen.append(middle(marks(sheet, "roof")["dense 3"])[0])
        scales.append((ticks(explorer._roofline.drawn, "middle"), ticks(explorer._roofline.drawn, "end")))
    assert seen == sorted(seen) and seen[-1] > seen[0] + 50, "each weight is used for more and more images"
    assert all(scale == scales[0] for scale in scales), "what moves is the layers, not the axes"


def test_measuring_fills_the_marks_of_this_batch_and_is_remembered(explorer):
    random = torch.get_rng_state()
    assert explorer.times is None and "Press “measure”" in " ".join(explorer.sheet().words())
    explorer.measure_button.click()
    assert torch.equal(torch.get_rng_state(), random)
    found = explorer.times
    assert found.layers.name.tolist() == explorer.work.name.tolist() and len(marks(explorer.sheet(), "measured")) == 5
    explorer.batch_size = 4
    assert explorer.controls["batch_size"].value == 4
    assert explorer.times is None and not marks(explorer.sheet(), "measured")
    explorer.batch_size = 1
    assert explorer.times is found and len(marks(explorer.sheet(), "measured")) == 5


def test_the_network_is_chosen_from_the_list_or_set_from_code(explorer):
    for name, architecture in widget.SMALL.items():
        explorer._menu.value = architecture
        assert explorer.architecture == architecture
        assert name in explorer.sheet().title and len(explorer.work) == len(layer_work(build(architecture)))
    explorer.architecture = VGG_SMALL["VGG (2,2)"]
    assert explorer._menu.value == VGG_SMALL["VGG (2,2)"] and "VGG (2,2)" in explorer.sheet().title
    own = LENET.change(blocks=(replace(LENET.blocks[0], convs=(Conv(3, 5),)), *LENET.blocks[1:]))
    explorer.architecture = own
    assert explorer._menu.value == own and own.label in [option[0] for option in explorer._menu.options]
    assert "3 → 16" in " ".join(explorer.work.layer)
    explorer._menu.value = LENET
    assert explorer.architecture == LENET


def test_what_takes_long_is_timed_in_fewer_rounds(explorer, monkeypatch):
    monkeypatch.setattr(widget, "ROUNDS", (7, 5, 3, 1))
    found = {}
    for batch_size in (1, 64, 512):
        explorer.batch_size = batch_size
        found[batch_size] = explorer._rounds()
        needed = seconds_to_measure(explorer.work, ROOF, repeats=1, rounds=1, seconds=0)
        assert found[batch_size] * needed <= widget.LONGEST or not found[batch_size]
    assert found[1] == 7
    explorer.architecture, explorer.batch_size = VGG["A"].scaled(1 / 2), 1
    assert 0 < explorer._rounds() < 7
    explorer.batch_size = 8
    assert explorer._rounds() == 0


def test_what_would_take_too_long_is_refused_and_its_hollow_marks_are_drawn(explorer):
    explorer.architecture = VGG["A"]
    assert len(marks(explorer.sheet(), "roof")) == 11
    explorer.batch_size = 64
    explorer.measure()
    words = text(explorer.message)
    # 2 · 7.61 GFLOPs, 64 images, at 100 GFLOP/s: 9.7 s on the roof, and all of it is run some ten times.
    assert "To time VGG-11 (A) with a batch of 64 would take about 201 s here" in words
    assert "take a smaller batch" in words and 'role="alert"' in words and explorer.times is None
    explorer.batch_size = 1
    assert text(explorer.message) == ""
    explorer.batch_size = 64
    explorer.measure()
    assert "take a smaller batch" in text(explorer.message)
    explorer.architecture = LENET
    assert text(explorer.message) == "", "of LeNet it isn't true"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("batch_size", 3, "batch_size must be one of 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, got 3"),
        ("batch_size", True, "batch_size must be one of"),
        ("architecture", "LeNet", "architecture must be an Architecture, such as LENET"),
    ],
)
def test_what_it_cannot_show_is_refused_in_words(explorer, name, value, said):
    shown = explorer.sheet()
    with pytest.raises(ValueError) as caught:
        setattr(explorer, name, value)
    assert str(caught.value).startswith(said) and explorer.sheet() == shown


def test_a_roof_that_is_none_is_refused_and_without_one_it_is_measured(here, monkeypatch):
    with pytest.raises(ValueError, match=r"roof must be a Ceilings, such as ceilings\(device\)"):
        RooflineExplorer(100e9)
    asked = []
    monkeypatch.setattr(widget, "ceilings", lambda *args: asked.append(args) or here)
    assert RooflineExplorer(device="cpu").roof == here and asked == [(torch.device("cpu"),)]


def test_under_the_roof_of_another_device_nothing_is_measured_until_there_is_one_of_this(here, monkeypatch):
    explorer = RooflineExplorer(replace(here, device="a fine GPU"), LENET, device="cpu")
    explorer.measure()
    assert "The roof was measured on a fine GPU" in text(explorer.message) and explorer.times is None
    faster = replace(here, flops_per_s=200e9)
    monkeypatch.setattr(widget, "ceilings", lambda *args: faster)
    explorer.roof_button.click()
    assert explorer.roof == faster and "200 GFLOP/s" in explorer.sheet().words() and text(explorer.message) == ""
    explorer.measure()
    assert explorer.times is not None
    explorer.measure_roof()
    assert explorer.times is None, "what was timed may have been timed under other conditions"


def test_it_measures_in_the_dtype_of_the_roof(here):
    explorer = RooflineExplorer(replace(here, dtype="bfloat16"), LENET, device="cpu")
    explorer.measure()
    assert explorer.times.dtype == "bfloat16"
    assert explorer.work.equals(layer_work(build(LENET), dtype="bfloat16"))
    assert explorer.times.layers[list(explorer.work)].equals(explorer.work)


def test_memory_that_runs_out_is_said(explorer, monkeypatch):
    def fails(*args, **kwargs):
        raise OutOfMemory("memory ran out. Take a smaller batch_size")

    with monkeypatch.context() as patch:
        patch.setattr(widget, "layer_times", fails)
        explorer.measure_button.click()
    assert "memory ran out. Take a smaller batch_size." in text(explorer.message)
    explorer.measure()
    assert text(explorer.message) == "" and explorer.times is not None


def test_an_error_that_nobody_foresaw_is_shown_and_raised(explorer, monkeypatch, caplog):
    def fails(*args, **kwargs):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(widget, "layer_times", fails)
        with pytest.raises(OSError, match="the disk is full"):
            explorer.measure()
        explorer.say()
        explorer.measure_button.click()
    assert "the disk is full" in text(explorer.message) and "Traceback" in text(explorer.message)
    caplog.clear()
    with monkeypatch.context() as patch:
        patch.setattr(widget, "layer_work", fails)
        with pytest.raises(OSError, match="the disk is full"):
            explorer.controls["batch_size"].value = 8
    explorer.batch_size = 16
    assert explorer.work.macs.sum() == 16 * layer_work(build(LENET)).macs.sum()
