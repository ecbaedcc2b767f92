"""utils/throughput.py: the measuring ritual, on a clock that the tests set. Nothing asserts how fast a machine is."""

import itertools
import json
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from utils import device, throughput
from utils.throughput import inference_throughput, time_repeats

pytestmark = pytest.mark.torch

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")


class Clock:
    """Stands still but for what the tests let happen on it. A device's work is only done when it is waited for."""

    def __init__(self):
        self.now, self.backlog, self.events = 1000.0, 0.0, []

    def perf_counter(self):
        self.events.append("clock")
        return self.now

    def synchronize(self, where):
        self.events.append("wait")
        self.now, self.backlog = self.now + self.backlog, 0.0


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    monkeypatch.setattr(throughput, "synchronize", clock.synchronize)
    return clock


def takes(clock, *seconds):
    """A function whose first call takes the first of `seconds`, and so on; the last holds for all later ones."""
    durations = itertools.chain(seconds, itertools.repeat(seconds[-1]))

    def call(*args):
        clock.events.append("call")
        clock.now += next(durations)

    return call


class Net(nn.Module):
    """A convolution with batch norm and dropout that keeps what it is called with, and then calls `then`."""

    def __init__(self, then=None):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.then, self.calls = then, []

    def forward(self, x):
        y = self.features(x)
        self.calls.append(
            SimpleNamespace(
                x=x,
                y=y,
                training=[module.training for module in self.modules()],
                inference=torch.is_inference_mode_enabled(),
            )
        )
        if self.then:
            self.then()
        return y.mean(dim=(2, 3))


def measure(model, **options):
    return inference_throughput(model, (3, 6, 5), **{"batch_size": 8, "dtype": "float32", "seconds": 0} | options)


# --- the ritual -------------------------------------------------------------------------------------------------------


def test_warm_up_then_calibrate_then_repeat(clock):
    call = takes(clock, 0.25)
    assert time_repeats(call, "cpu", repeats=5, seconds=1.0) == [0.25] * 5
    timed = [["wait", "clock", *["call"] * calls, "wait", "clock"] for calls in (2, 1, 4, 4, 4, 4, 4, 4)]
    assert clock.events == list(itertools.chain(*timed)), "two to warm up, one to guess how many, four to correct it"


def test_the_warm_up_does_not_count(clock):
    assert time_repeats(takes(clock, 500.0, 100.0, 0.5), "cpu", repeats=3, seconds=1.0) == [0.5] * 3
    assert clock.events.count("call") == 2 + 1 + 2 + 3 * 2


def test_a_hiccup_in_the_first_guess_is_corrected(clock):
    assert time_repeats(takes(clock, 1.0, 1.0, 1.0, 0.125), "cpu", repeats=4, seconds=1.0) == [0.125] * 4
    assert clock.events.count("call") == 2 + 1 + 1 + 4 * 8


@pytest.mark.parametrize("one_call", [0.0625, 0.375, 0.4375, 0.75, 1.0, 7.0])
@pytest.mark.parametrize("seconds", [0.0, 0.25, 1.0])
def test_each_timing_fills_its_seconds_and_no_more(clock, one_call, seconds):
    assert time_repeats(takes(clock, one_call), "cpu", repeats=1, seconds=seconds) == [one_call]
    calls = " ".join(clock.events).split("clock")[-2].count("call")  # between the last two readings
    assert calls * one_call >= seconds
    assert calls == 1 or (calls - 1) * one_call < seconds, "one fewer would do"


def test_each_repeat_is_a_timing_of_its_own(clock):
    assert time_repeats(takes(clock, 1, 1, 1, 1, 4, 2, 8), "cpu", repeats=3, seconds=0) == [4, 2, 8]


def test_the_devices_own_time_is_what_counts(clock):
    def call():
        clock.now += 0.125  # to tell the device what to do …
        clock.backlog += 0.375  # … and what it needs to do it, later

    assert time_repeats(call, "cuda", repeats=2, seconds=2.0) == [0.5, 0.5]


def test_it_waits_for_the_device_that_is_meant(monkeypatch):
    waited = []
    monkeypatch.setattr(throughput, "synchronize", waited.append)
    time_repeats(lambda: None, "mps", repeats=1, seconds=0)
    assert waited == ["mps"] * 8


@pytest.mark.parametrize(
    ("seconds", "median", "low", "high"),
    [((2,), 4, 4, 4), ((1, 4, 2), 4, 2, 8), ((8, 1, 4, 2), 3, 1, 8), ((1, 1, 1, 1, 8), 8, 1, 8)],
)
def test_median_and_spread(clock, seconds, median, low, high):
    found = measure(Net(takes(clock, 1, 1, 1, 1, *seconds)), repeats=len(seconds))
    assert (found.images_per_s, found.low, found.high, found.repeats) == (median, low, high, len(seconds))
    assert clock.events.count("call") == 4 + len(seconds)


def test_the_rate_counts_images_not_batches(clock):
    for batch_size in (1, 8, 24):
        assert measure(Net(takes(clock, 0.25)), batch_size=batch_size, seconds=1).images_per_s == 4 * batch_size


# --- what the network sees --------------------------------------------------------------------------------------------


def test_the_same_batch_again_and_again_on_the_device():
    net = Net()
    measure(net, repeats=2)
    assert len(net.calls) == 6
    assert {tuple(call.x.shape) for call in net.calls} == {(8, 3, 6, 5)}
    assert len({call.x.data_ptr() for call in net.calls}) == 1, "made once: data loading is not measured"
    x = net.calls[0].x
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert x.unique().numel() == x.numel() and x.isfinite().all(), "no zeros, which some kernels skip"


def test_evaluation_mode_and_no_gradients():
    net = Net()
    measure(net)
    for call in net.calls:
        assert call.training == [False] * len(list(net.modules()))
        assert call.inference and not call.y.requires_grad
    assert all(p.grad is None for p in net.parameters())
    assert net.features[1].num_batches_tracked == 0, "batch norm has learnt nothing"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_it_computes_in_the_dtype_that_is_stamped(dtype):
    net = Net()
    assert measure(net, dtype=dtype).dtype == dtype
    assert {call.y.dtype for call in net.calls} == {getattr(torch, dtype)}
    assert {p.dtype for p in net.parameters()} == {torch.float32}, "the network itself is left as it is"


def test_auto_takes_what_fit_would(monkeypatch):
    for dtype in (torch.bfloat16, torch.float32):
        monkeypatch.setattr(device, "fastest_dtype", lambda where, dtype=dtype: dtype)
        net = Net()
        assert measure(net, dtype="auto").dtype == str(dtype).removeprefix("torch.")
        assert {call.y.dtype for call in net.calls} == {dtype}


# --- what is left behind ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_put_back(training):
    net = Net().train(training)
    measure(net)
    assert [module.training for module in net.modules()] == [training] * len(list(net.modules()))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("error", [RuntimeError("shapes cannot be multiplied"), KeyboardInterrupt()])
def test_the_mode_is_put_back_when_it_fails(training, error):
    def fail():
        raise error

    net = Net(fail).train(training)
    with pytest.raises(type(error)) as caught:
        measure(net)
    assert caught.value is error
    assert net.training == training and not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("where", ["cpu", pytest.param("cuda", marks=cuda)])
def test_what_was_measured_can_be_trained_afterwards(where):
    net = Net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    measure(net, device=where)
    for name, value in net.state_dict().items():
        assert torch.equal(value.cpu(), before[name])
    x = torch.rand(4, 3, 6, 5, device=where)
    F.cross_entropy(net.train()(x), torch.arange(4, device=where)).backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("where", ["cpu", pytest.param("cuda", marks=cuda)])
def test_measuring_leaves_the_random_numbers_as_they_were(where):
    net = Net()
    torch.manual_seed(0)
    before = torch.rand(3, device=where)
    torch.manual_seed(0)
    measure(net, device=where)
    assert torch.equal(torch.rand(3, device=where), before)


# --- the stamp --------------------------------------------------------------------------------------------------------


def test_the_stamp_says_what_it_was_measured_under(clock, monkeypatch):
    monkeypatch.setattr(throughput, "device_name", lambda where: f"a fine {where.type}")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    monkeypatch.setattr(throughput, "versions", lambda: {"torch": "2.11.0"})
    found = measure(Net(takes(clock, 2.0)), batch_size=4, dtype="bfloat16", repeats=2).to_dict()
    assert found == {
        "images_per_s": 2.0, "low": 2.0, "high": 2.0, "repeats": 2, "batch_size": 4, "dtype": "bfloat16",
        "device": "a fine cpu", "threads": 7, "versions": {"torch": "2.11.0"},
    }  # fmt: skip


@pytest.mark.parametrize("where", ["cpu", pytest.param("cuda", marks=cuda)])
def test_measured_for_real(where):
    found = measure(Net(), device=where, seconds=0.01, dtype="auto")
    assert 0 < found.low <= found.images_per_s <= found.high < math.inf
    assert found.repeats == 5 and found.batch_size == 8 and found.threads == torch.get_num_threads()
    assert found.device == device.device_name(where) and found.versions == device.versions()
    assert throughput.Throughput(**json.loads(json.dumps(found.to_dict()))) == found, "plain data"


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        *(({"batch_size": bad}, f"batch_size must be a whole number of at least 1, got {bad!r}")
          for bad in (0, -8, 2.0, "8", True, None)),
        *(({"repeats": bad}, f"repeats must be a whole number of at least 1, got {bad!r}") for bad in (0, -1, 1.5)),
        *(({"seconds": bad}, f"seconds must be a number of at least 0, got {bad!r}")
          for bad in (-0.1, math.nan, math.inf, "1", None)),
        *(({"dtype": bad}, f"dtype must be one of 'auto', 'float32', 'bfloat16', 'float16', got {bad!r}")
          for bad in ("bf16", torch.float32)),
        *(({"input_shape": bad}, f"input_shape must be one image's (channels, height, width), got {bad!r}")
          for bad in ((28, 28), (8, 1, 28, 28), ())),
        ({"input_shape": 28}, "input_shape must be a sequence such as a tuple or a list, got 28"),
        ({"input_shape": (0, 28, 28)}, "input_shape's channels must be a whole number of at least 1, got 0"),
        ({"input_shape": (1, 28.0, 28)}, "input_shape's height must be a whole number of at least 1, got 28.0"),
        ({"input_shape": [1, 28, -1]}, "input_shape's width must be a whole number of at least 1, got -1"),
    ],
)  # fmt: skip
def test_an_argument_that_makes_no_sense_is_an_error(options, said):
    net = Net()
    with pytest.raises(ValueError) as caught:
        inference_throughput(net, **{"input_shape": (3, 6, 5), "dtype": "float32"} | options)
    assert str(caught.value) == said
    assert net.training and not net.calls, "told before anything is measured"


def test_the_layer_that_the_images_do_not_fit_is_named():
    with pytest.raises(ValueError, match="to have 3 channels, but got 1 channels"):
        inference_throughput(Net(), (1, 6, 5), dtype="float32")
