"""What runs on Apple's GPU, on one that is pretended (tests/for_mps.py): as on the CPU, in float32, from end to end."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import for_mps
import numpy as np
import pandas as pd
import pytest
import torch
from for_mps import MPS, OnMps, has_mps_kernel, lacking, pretend_mps
from torch import nn

from utils import blocks, device, experiments, roofline
from utils.architectures import ALEXNET_SMALL, LENET, Head, vgg_like
from utils.data import Images
from utils.device import describe, device_name, device_named, dtype_name, fast_format, fastest_dtype, pick_device
from utils.excitation import conv_layers, excitations
from utils.experiments import Arm, Experiment, sweep
from utils.faults import OutOfMemory, is_out_of_memory
from utils.models import build
from utils.profiling import profile
from utils.randomness import undisturbed
from utils.receptive import effective_field
from utils.roofline import ceilings, layer_times, layer_work
from utils.throughput import inference_throughput
from utils.training import Recipe, evaluate, fit
from utils.trials import Trial
from utils.vitals import vital_signs

pytestmark = pytest.mark.usefixtures("one_thread", "quick_trials")

ROOT = Path(__file__).resolve().parent.parent
VGG_NORM = vgg_like((1, 1), (4, 8), norm="batch", head=Head(hidden=(16,), dropout=0.5))
ALEXNET_LRN = ALEXNET_SMALL.change(norm="lrn")
NETWORKS = {"LeNet": LENET, "VGG with batch norm": VGG_NORM, "AlexNet with LRN": ALEXNET_LRN}
named = pytest.mark.parametrize("architecture", NETWORKS.values(), ids=list(NETWORKS))
RECIPE = Recipe(epochs=2, batch_size=64, lr=0.02, augment="flip+shift", label_smoothing=0.1)
ON_CPU = replace(RECIPE, dtype="float32")  # where "auto" may be another


@pytest.fixture(autouse=True)
def mac():
    """Apple's GPU, from the start; in the end nothing may have been asked of it that torch has to do on the CPU."""
    kept = device_name, fastest_dtype
    for function in kept:
        function.cache_clear()
    try:
        with pretend_mps():
            yield
            assert not lacking
    finally:
        for function in kept:
            function.cache_clear()


def seeded(architecture, where="cpu"):
    torch.manual_seed(0)
    return build(architecture).to(where)


def same(found, expected, within=1e-4):
    """Is it on the GPU, in float32, and what the CPU has? Summed in another order, so not to the last digit."""
    assert found.device == MPS and found.dtype == torch.float32
    torch.testing.assert_close(found.detach().cpu(), expected.detach(), rtol=within, atol=within)


# --- the pretended device refuses what the real one does --------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(2, device="mps").double(),
        lambda: torch.zeros(2, dtype=torch.float64, device="mps"),
        lambda: torch.from_numpy(np.ones(2)).to("mps"),
        lambda: torch.ones(2).to("mps", torch.float64),
        lambda: torch.zeros(2, device="mps") + torch.zeros(2, device="mps").to(torch.complex128),
        lambda: nn.Linear(2, 2).double().to("mps"),
    ],
)
def test_float64_never_reaches_the_gpu_of_a_mac(make):
    with pytest.raises((TypeError, RuntimeError)) as refused:
        make()
    assert "doesn't support float64" in f"{refused.value} {refused.value.__cause__}"


def test_what_lies_on_the_cpu_is_not_mixed_with_it():
    x = torch.ones(3, device="mps")
    assert x.device == MPS and (x + torch.tensor(1.0)).tolist() == [2, 2, 2]  # a single number may lie anywhere
    assert x[torch.tensor([0, 1])].device == MPS  # and so may an index
    with pytest.raises(RuntimeError, match="two devices, mps:0 and cpu"):
        x + torch.ones(3)
    with pytest.raises(RuntimeError, match="two devices, mps:0 and cpu"):
        torch.ones(3)[torch.tensor([0, 1], device="mps")]
    with pytest.raises(TypeError, match="can't convert mps:0 device type tensor to numpy"):
        np.asarray(x)


def test_batch_norm_learns_nothing_from_channels_last_there():
    images = torch.randn(2, 3, 4, 4).to("mps")
    norm = nn.BatchNorm2d(3).to("mps")
    norm(images).sum().backward()
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        norm(images.to(memory_format=torch.channels_last)).sum().backward()


def test_torchs_table_says_which_operations_the_gpu_has(monkeypatch):
    assert has_mps_kernel("aten::add", "Tensor") and has_mps_kernel("aten::avg_pool3d", "")
    assert not has_mps_kernel("aten::cudnn_batch_norm", "")
    monkeypatch.setattr(for_mps, "has_mps_kernel", lambda name, overload: name != "aten::add")
    x = torch.ones(2, device="mps")
    x * x + x
    assert lacking == {"add"}
    lacking.clear()


def test_a_copy_there_and_back_is_a_copy_and_lets_the_gradient_through():
    x = torch.ones(2, requires_grad=True)
    there = x.to("mps")
    assert isinstance(there, OnMps) and there.to("mps") is there
    (3 * there).cpu().sum().backward()
    assert x.grad.tolist() == [3, 3]
    with torch.no_grad():
        there.zero_()
    assert x.tolist() == [1, 1]


# --- what the student is told -----------------------------------------------------------------------------------------


def test_the_apple_gpu_is_picked_and_named():
    assert pick_device() == device_named() == device_named("mps") == torch.device("mps")
    assert device_named("mps:0") == MPS
    assert describe().startswith(f"Running on {device._processor()}, ") and "Apple GPU (mps), torch" in describe()


def test_macs_with_other_chips_have_other_names(monkeypatch):
    said = SimpleNamespace(stdout="Apple M3 Pro\n", returncode=0)
    monkeypatch.setattr(device.sys, "platform", "darwin")
    monkeypatch.setattr(device.subprocess, "run", lambda command, **_: said)
    monkeypatch.setattr(device, "Path", lambda path: ROOT / "no such file")
    monkeypatch.setattr(device, "cpu_cores", lambda: 12)
    assert device_name("mps") == "Apple M3 Pro, 12 cores, Apple GPU"


def test_dtype_auto_is_float32_on_a_mac():
    assert dtype_name("auto", "mps") == dtype_name("auto", MPS) == "float32"
    assert fast_format(MPS) == torch.contiguous_format and fast_format("cpu") == torch.channels_last


def test_torch_does_on_the_cpu_what_the_gpu_lacks_unless_you_say_otherwise():
    code = "import utils, os, sys; print(os.environ['PYTORCH_ENABLE_MPS_FALLBACK'], 'torch' in sys.modules)"
    name = "PYTORCH_ENABLE_MPS_FALLBACK"
    clean = {key: value for key, value in os.environ.items() if key != name} | {"PYTHONPATH": str(ROOT)}
    said = [
        subprocess.run([sys.executable, "-c", code], env=clean | yours, capture_output=True, encoding="utf-8").stdout
        for yours in ({}, {name: "0"})
    ]
    assert said == ["1 False\n", "0 False\n"]


@pytest.mark.parametrize("words", ["Invalid buffer size: 9.75 GiB", "MPS backend out of memory (MPS allocated: 9 GB"])
def test_the_gpus_own_words_for_no_memory_are_known(words):
    assert is_out_of_memory(RuntimeError(words))


def test_a_batch_that_does_not_fit_is_said_to(tiny, monkeypatch):
    def full(*args, **kwargs):
        raise RuntimeError("Invalid buffer size: 9.75 GiB")

    net = build(LENET)
    monkeypatch.setattr(net, "forward", full)
    with pytest.raises(OutOfMemory, match="Not even one image fits"):
        fit(net, tiny.train.to("mps"), RECIPE, progress=False)


# --- images -----------------------------------------------------------------------------------------------------------


def test_the_images_lie_there(tiny):
    there = tiny.train.to("mps")
    assert there.device == there.pixels.device == there.labels.device == MPS
    assert there.to("mps").pixels is there.pixels
    taken, expected = there.take(30), tiny.train.take(30)
    assert torch.equal(taken.pixels.cpu(), expected.pixels) and taken.device == MPS


@pytest.mark.parametrize("augment", ["none", "flip", "flip+shift"])
@pytest.mark.parametrize("image_size", [28, 33, 48])
@pytest.mark.parametrize("drawn_on", ["cpu", "mps"])
def test_a_batch_is_what_it_is_on_the_cpu(tiny, augment, image_size, drawn_on):
    index = torch.arange(20, 60)

    def batch(images, index, where):
        generator = torch.Generator(where).manual_seed(3)
        return images.batch(index, image_size=image_size, augment=augment, generator=generator)

    images, labels = batch(tiny.train.to("mps"), index.to("mps"), drawn_on)
    expected, its_labels = batch(tiny.train, index, "cpu")
    same(images, expected, within=1e-6)
    assert labels.device == MPS and labels.tolist() == its_labels.tolist()


# --- training ---------------------------------------------------------------------------------------------------------


@named
def test_a_network_trains_there_as_on_the_cpu(tiny, architecture):
    there, here = tiny.train.to("mps"), tiny.train
    net, other = seeded(architecture), seeded(architecture)
    history = fit(net, there, RECIPE, validation=tiny.validation.to("mps"), progress=False)
    expected = fit(other, here, ON_CPU, validation=tiny.validation, progress=False)
    assert (history.dtype, history.device) == ("float32", device_name("mps"))
    assert history.losses == pytest.approx(expected.losses, rel=1e-3)
    assert [e["validation_loss"] for e in history.epochs] == pytest.approx(
        [e["validation_loss"] for e in expected.epochs], rel=1e-3
    )
    for name, weight in net.state_dict().items():
        assert weight.device == MPS, name
        if weight.is_floating_point():
            same(weight, other.state_dict()[name], within=1e-3)


@pytest.mark.parametrize("changes", [{"optimizer": "adamw", "lr": 1e-3}, {"schedule": "cosine", "momentum": 0.0}])
def test_the_other_optimisers_and_schedules_do_it_too(tiny, changes):
    losses = [
        fit(seeded(LENET), images, replace(recipe, **changes), progress=False).losses
        for images, recipe in ((tiny.train.to("mps"), RECIPE), (tiny.train, ON_CPU))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_what_was_left_in_channels_last_trains_there_all_the_same(tiny):
    net = seeded(VGG_NORM)
    inference_throughput(net, (1, 28, 28), batch_size=2, repeats=1, seconds=0, dtype="float32")
    assert net.features[4].weight.is_contiguous(memory_format=torch.channels_last)
    history = fit(net, tiny.train.to("mps"), RECIPE, progress=False)
    assert net.features[4].weight.is_contiguous() and all(map(math.isfinite, history.losses))


@named
def test_it_is_evaluated_there_as_on_the_cpu(tiny, architecture):
    net = seeded(architecture)
    expected = evaluate(net, tiny.test)
    found = evaluate(net, tiny.test.to("mps"), batch_size=30)
    assert next(net.parameters()).device == MPS
    assert found.loss == pytest.approx(expected.loss, rel=1e-4)
    assert torch.equal(found.predictions, expected.predictions) and found.predictions.device.type == "cpu"


def all_there(tiny):
    return replace(
        tiny, **{name: getattr(tiny, name).to("mps") for name in ("train", "validation", "all_train", "test")}
    )


def test_a_trial_runs_there_to_its_end(tiny):
    trial = Trial(VGG_NORM, all_there(tiny), seconds=1)
    assert list(trial)[-1] == "done"
    assert (trial.record["recipe"]["dtype"], trial.record["device"]) == ("float32", device_name("mps"))
    assert all(map(math.isfinite, trial.record["losses"]))


def test_an_experiment_runs_there_without_other_processes(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "run_in_workers", lambda *_, **__: pytest.fail("the GPU is shared"))
    arms, small = (Arm(VGG_NORM, Recipe(epochs=1, batch_size=64)),), {"seconds": 0, "repeats": 1}
    monkeypatch.setattr(experiments, "inference_throughput", lambda *a, **k: inference_throughput(*a, **k | small))
    experiment = Experiment("there", "Does it run?", arms, seeds=(0, 1), batch_size=4)
    records = sweep(experiment, all_there(tiny), folder=tmp_path, workers=2, progress=False)
    assert [record["kind"] for record in records] == ["throughput", "run", "run"]
    assert {(record["dtype"], record["device"]) for record in records} == {("float32", device_name("mps"))}


def test_random_numbers_are_put_back_there_too():
    torch.manual_seed(7)
    expected = torch.rand(2).tolist()
    torch.manual_seed(7)
    drawn = undisturbed((torch.rand(2, device="mps").tolist() for _ in range(3)), seed=1, device="mps")
    assert next(drawn) != next(drawn)
    assert torch.rand(2).tolist() == expected


# --- pooling to a size that doesn't divide ----------------------------------------------------------------------------


def test_torchs_own_pooling_refuses_sizes_that_do_not_divide():
    with pytest.raises(RuntimeError, match="input sizes must be divisible by output sizes"):
        nn.AdaptiveAvgPool2d(2)(torch.ones(1, 1, 3, 3, device="mps"))


@pytest.mark.parametrize(("side", "size"), [(3, 2), (8, 7), (6, 4), (4, (2, 3)), (6, 3), (5, 1)])
def test_ours_pools_them_on_the_cpu(side, size):
    maps = torch.randn(2, 3, side, side)
    results = []
    for where in ("mps", "cpu"):
        given = maps.to(where).requires_grad_()
        pooled = blocks.AdaptiveAvgPool2d(size)(given)
        (pooled**2).sum().backward()
        results.append((pooled, given.grad))
    (pooled, gradient), (expected, its_gradient) = results
    same(pooled, expected, within=1e-6)
    same(gradient, its_gradient, within=1e-6)


def test_where_they_divide_nothing_goes_to_the_cpu(monkeypatch):
    monkeypatch.setattr(OnMps, "cpu", property(lambda self: pytest.fail("it goes to the CPU")))
    assert blocks.AdaptiveAvgPool2d(3)(torch.ones(1, 2, 6, 6, device="mps")).shape == (1, 2, 3, 3)


def test_the_layer_is_called_and_counted_as_torchs_is():
    ours, torchs = (nn.Sequential(kind(2), nn.Flatten()) for kind in (blocks.AdaptiveAvgPool2d, nn.AdaptiveAvgPool2d))
    assert repr(ours) == repr(torchs)
    pd.testing.assert_frame_equal(profile(ours, (3, 5, 5)).layers, profile(torchs, (3, 5, 5)).layers)


def test_a_network_for_other_sizes_trains_there(tiny):
    uneven = ALEXNET_SMALL.change(image_size=32)  # its last maps are 3×3, averaged to 2×2
    history = fit(seeded(uneven), tiny.train.to("mps"), RECIPE, progress=False)
    expected = fit(seeded(uneven), tiny.train, ON_CPU, progress=False)
    assert history.losses == pytest.approx(expected.losses, rel=1e-3)


# --- what is measured and looked at -----------------------------------------------------------------------------------


@named
def test_throughput_is_measured_there(architecture):
    net = seeded(architecture)
    found = inference_throughput(net, (1, 28, 28), batch_size=4, device="mps", repeats=1, seconds=0)
    assert (found.dtype, found.device) == ("float32", device_name("mps")) and found.images_per_s > 0
    assert all(p.device == MPS and p.is_contiguous() for p in net.parameters())


def test_the_profile_of_a_network_there_is_that_of_one_here():
    pd.testing.assert_frame_equal(profile(seeded(VGG_NORM, "mps")).layers, profile(seeded(VGG_NORM)).layers)


@named
def test_vital_signs_there_are_those_here(tiny, architecture):
    images, labels = tiny.train.batch(slice(32))
    torch.manual_seed(1)
    found = vital_signs(seeded(architecture, "mps"), images.to("mps"), labels.to("mps"))
    torch.manual_seed(1)
    expected = vital_signs(seeded(architecture), images, labels)
    assert found.loss == pytest.approx(expected.loss, rel=1e-4)
    pd.testing.assert_frame_equal(found.layers, expected.layers, rtol=1e-3)


def test_what_excites_a_channel_there_is_what_does_here(tiny):
    images, _ = tiny.train.batch(slice(32))
    layer = conv_layers(seeded(VGG_NORM, "mps"))[1]
    found = excitations(seeded(VGG_NORM, "mps"), layer.after, [images])
    expected = excitations(seeded(VGG_NORM), layer.after, [images])
    torch.testing.assert_close(found.values, expected.values)
    assert found.top(0)[0].image == expected.top(0)[0].image and found.values.device.type == "cpu"


def test_the_effective_field_there_is_that_here(tiny):
    images, _ = tiny.train.batch(slice(8))
    fields = [effective_field(seeded(LENET, where).features, images.to(where)) for where in ("mps", "cpu")]
    torch.testing.assert_close(*fields, rtol=1e-3, atol=1e-5)


def test_the_roofline_of_a_mac_is_measured(monkeypatch):
    monkeypatch.setattr(roofline, "SIDES", (64,))
    monkeypatch.setattr(roofline, "COPIED", 2**16)
    found = ceilings("mps")
    assert (found.dtype, found.device) == ("float32", device_name("mps"))
    assert found.flops_per_s > 0 and found.bytes_per_s > 0


@named
def test_layers_are_timed_there(architecture):
    net = seeded(architecture)
    found = layer_times(net, batch_size=2, device="mps", repeats=1, seconds=0)
    assert found.dtype == "float32" and (found.layers.seconds > 0).any()
    work = layer_work(net, batch_size=2, device="mps")
    columns = ["name", "kind", "layer", "macs"]
    pd.testing.assert_frame_equal(found.layers[columns], work[columns])
    if architecture is not ALEXNET_LRN:
        assert found.layers.bytes.tolist() == work.bytes.tolist()


def test_images_of_both_devices_are_no_set(tiny):
    with pytest.raises(ValueError, match=r"on one device, got .* on mps:0 and .* on cpu"):
        Images(tiny.train.pixels.to("mps"), tiny.train.labels)
