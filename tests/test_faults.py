"""utils/faults.py and how `fit` meets what goes wrong: numbers that are none, interruptions, memory, nothing learnt."""

import inspect
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from utils import faults, training
from utils.architectures import Head, vgg_like
from utils.data import Images
from utils.faults import OutOfMemory, is_out_of_memory, largest_that_fits, learnt_nothing
from utils.models import build
from utils.profiling import profile
from utils.throughput import inference_throughput
from utils.training import Recipe, TrainingError, evaluate, fit, train

ROOT = Path(__file__).resolve().parent.parent
PLAIN = Recipe(epochs=2, batch_size=8, lr=0.05, dtype="float32")
SMALL = vgg_like((1,), (4,), head=Head(hidden=(8,)), norm="batch")

pytestmark = pytest.mark.usefixtures("one_thread")


def images(n, seed=0):
    pixels = torch.randint(256, (n, 1, 28, 28), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Images(pixels, torch.arange(n) % 10)


class Floats:
    """A student's own images: floats, so that NaN and infinity can be among them."""

    device = torch.device("cpu")

    def __init__(self, n):
        self.pixels = torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        self.labels = torch.arange(n) % 10

    def __len__(self):
        return len(self.labels)

    def batch(self, index, *, image_size, augment, generator):
        return self.pixels[index], self.labels[index]


def net(architecture=SMALL):
    torch.manual_seed(0)
    return build(architecture)


def quiet(model, data, recipe=PLAIN, **options):
    return fit(model, data, recipe, **{"progress": False} | options)


def copy_of(model):
    return {name: values.clone() for name, values in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- layers that don't fit --------------------------------------------------------------------------------------------


class TwoWays(nn.Module):
    """A student's own: two ways through, the second with a dense layer for other images."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), nn.Linear(100, 10)

    def forward(self, x):
        return self.first(x) + self.second(input=x.flatten(1))


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (
            nn.Sequential(nn.Flatten(), nn.Linear(100, 10)),
            r"1, Linear\(in_features=100, out_features=10, bias=True\), given \(N, 784\): (addmm: )?mat1 and mat2",
        ),
        (
            nn.Sequential(nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU()), nn.Conv2d(3, 9, 3)),
            r"1, Conv2d\(3, 9, .*\), given \(N, 6, 24, 24\): .* to have 3 channels, but got 6 channels",
        ),
        (TwoWays(), r"second, Linear\(in_features=100, .*\), given \(N, 784\): (addmm: )?mat1"),
    ],
)
def test_the_layer_that_does_not_fit_is_named(model, found):
    uses = {
        8: lambda: quiet(model, images(40)),
        40: lambda: evaluate(model, images(40)),
        3: lambda: inference_throughput(model, (1, 28, 28), batch_size=3),
    }
    for n, use in uses.items():
        found_there = found.replace("(N,", f"({n},")
        with pytest.raises(ValueError, match=f"(?s)^a layer of the network can't take.*found: {found_there}"):
            use()


@pytest.mark.parametrize(
    ("layers", "to_do"),
    [
        ([nn.Linear(784, 10)], "put an nn.Flatten() before it: it is then given 784 numbers an image, which is what"),
        ([nn.Conv2d(1, 3, 5), nn.Linear(1000, 10)], "given 1728 numbers an image, so make it nn.Linear(1728, …)"),
        ([nn.Flatten(), nn.Linear(784, 4), nn.BatchNorm2d(4), nn.Linear(4, 10)], "make that layer for what it is"),
    ],
    ids=["as it should be", "another number", "batch norm of images"],
)
def test_what_to_do_about_a_layer_that_does_not_fit(layers, to_do):
    model = nn.Sequential(*layers)
    for use in (
        lambda: quiet(model, images(40)),
        lambda: evaluate(model, images(40)),
        lambda: inference_throughput(model, (1, 28, 28), batch_size=3),
    ):
        with pytest.raises(ValueError) as caught:
            use()
        assert to_do in str(caught.value)
    with pytest.raises(ValueError) as caught:
        profile(model, (1, 28, 28))
    assert to_do.replace("make that layer for what it is", "give the input_shape that") in str(caught.value)


def test_batch_norm_cannot_train_on_one_number():
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 4), nn.BatchNorm1d(4), nn.Linear(4, 10))
    with pytest.raises(ValueError, match=r"found: 2, BatchNorm1d(?s:.)*take a larger batch_size, or more images"):
        quiet(model, images(40), replace(PLAIN, batch_size=1))


class Tutorial(nn.Module):
    """As many tutorials have it."""

    def __init__(self):
        super().__init__()
        self.conv, self.dense = nn.Conv2d(1, 4, 5), nn.Linear(4 * 24 * 24, 10)

    def forward(self, x):
        return self.dense(self.conv(x).view(-1, 4 * 24 * 24))


@pytest.mark.parametrize(
    "use",
    [lambda net: quiet(net, images(40)), lambda net: inference_throughput(net, (1, 28, 28), batch_size=4)],
    ids=["fit", "inference_throughput"],
)
def test_a_view_is_told_of_channels_last_and_what_worked_before_still_does(use):
    model = Tutorial()
    wanted = evaluate(model, images(40)).loss
    with pytest.raises(
        ValueError, match=r"calls \.view(?s:.)*write x\.flatten\(1\)(?s:.)*Recipe\(channels_last=False\)"
    ):
        use(model)
    assert evaluate(model, images(40)).loss == pytest.approx(wanted)
    assert quiet(model, images(40), replace(PLAIN, channels_last=False)).stopped is None


def test_a_fault_in_a_students_own_lines_is_shown_as_it_is():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = nn.Linear(784, 10)

        def forward(self, x):
            return self.dense(x.flatten(1)).view(7, 10)

    with pytest.raises(RuntimeError, match=r"^shape '\[7, 10\]' is invalid"):
        evaluate(Net(), images(40))


# --- numbers that are none --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [(0, 0, 0), (13, 5, 27), (39, 27, 27)])
def test_a_spoilt_image_is_named(value, place):
    data = Floats(40)
    number, row, column = place
    data.pixels[number, 0, row, column] = value
    with pytest.raises(TrainingError) as caught:
        quiet(net(), data)
    found = "nan" if math.isnan(value) else "inf"
    assert f"The cause is in the data: image {number} holds {found}. Repair that image or leave it" in str(caught.value)
    assert "at step " in str(caught.value) and "learning rate" not in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["features.0.weight", "features.1.running_var", "classifier.2.bias"])
def test_weights_that_are_no_numbers_are_named_before_the_first_step(name, value):
    model, data = net(), Floats(40)
    model.state_dict()[name].view(-1)[-1] = value
    data.batch = None  # not one image is asked for
    with pytest.raises(TrainingError, match=rf"{name} holds {value} before the first step: build it anew"):
        train(model, images(40), PLAIN)


def test_scores_too_large_from_the_start_are_told_from_a_rate_too_high():
    huge = net(SMALL.change(norm="none", init="normal", init_std=1e25))
    with pytest.raises(
        TrainingError, match=r"step 1 of 10; it was never a number.*it is the scale.*smaller init_std"
    ) as e:
        quiet(huge, images(40))
    assert "learning rate" not in str(e.value) and "float16" not in str(e.value)


def test_in_float16_its_range_is_named():
    error = faults.loss_is_no_number([math.inf], 10, 0.1, "float16", None)
    assert "or dtype='float32', because float16 ends at 65,504" in str(error)


def test_after_the_first_step_too():
    error = faults.loss_is_no_number([2.3, math.inf], 10, 0.1, "float16", None)
    assert "lr=0.1, try a third" in str(error) and "float16 ends at 65,504" in str(error)
    assert "float16" not in str(faults.loss_is_no_number([2.3, math.inf], 10, 0.1, "bfloat16", None))


def test_a_large_loss_is_said_in_plain_digits():
    message = str(faults.loss_is_no_number([2.3, 123_456.0, math.inf], 100, 0.1, "float32", None))
    assert "the last good loss was 123,500. " in message
    message = str(faults.weights_are_no_numbers("features.0.weight holds nan", 3, 100, 123_456.0, 0.1))
    assert "the loss just before was still 123,500. " in message


@pytest.mark.parametrize("losses", [[math.inf], [2.3, math.inf], [math.log(10)] * 60])
def test_batch_norm_is_advised_only_where_there_is_none(losses):
    for norm, is_advised in (("none", True), ("batch", False)):
        net = build(SMALL.change(norm=norm))
        if math.isfinite(losses[-1]):
            words = learnt_nothing(losses, torch.arange(100) % 10, 0.1, net)
        else:
            words = str(faults.loss_is_no_number(losses, 100, 0.1, "float32", None, net))
        assert ('norm="batch"' in words) == is_advised and 'init="he", if its weights are drawn in another way' in words


@pytest.mark.parametrize("call", [evaluate, lambda model, seen: quiet(model, Floats(40), validation=seen)])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_spoilt_image_among_those_that_are_not_trained_on_is_named(call, value):
    seen = Floats(30)
    seen.pixels[17, 0, 3, 4] = value
    with pytest.raises(
        TrainingError, match=rf"^in evaluation the loss is nan\. .* data: image 17 holds {value}\. Repair"
    ):
        call(net(), seen)


def test_a_network_that_a_failed_training_has_spoilt_is_not_evaluated():
    model = net()
    with torch.no_grad():
        model.classifier[0].bias[1] = math.nan
    with pytest.raises(TrainingError, match=r"The network's classifier\.0\.bias holds nan: .* try a third of the rate"):
        evaluate(model, images(30))
    assert model.training, "its mode is put back"


def test_scores_that_are_too_large_are_not_evaluated():
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    with torch.no_grad():
        model[1].weight.fill_(1e38)
    with pytest.raises(TrainingError, match=r"the network's scores are too large: .* rate was too high, try a third"):
        evaluate(model, images(30))


def test_what_the_last_step_spoils_is_an_error_though_no_loss_has_seen_it():
    model, recipe = net(), replace(PLAIN, epochs=1, batch_size=40, lr=1e39, schedule="constant")
    with pytest.raises(TrainingError) as caught:
        quiet(model, images(40), recipe)
    message = str(caught.value)
    assert message.startswith("after step 1 of 1 features.0.weight holds ") and "lr=1e+39 is too high" in message
    loss = float(message.split("still ")[1].split(". ")[0])
    assert math.isfinite(loss) and loss > 0, "the loss that it names was taken before that step"


def test_a_good_run_and_a_stopped_one_are_no_error():
    assert quiet(net(), images(40)).warning is None
    assert quiet(net(), images(40), callbacks=[stop_at(3, training.StopTraining())]).warning is None


# --- interrupted at any step, in any part of it -----------------------------------------------------------------------


def stop_at(step, error):
    def callback(now):
        if now.number == step:
            raise error

    return callback


def press(part, step, model, monkeypatch):
    """Have Ctrl-C heard in this part of that step, as a signal; returns the callbacks that `fit` needs for it."""
    calls = 0

    def count(*_, **__):
        nonlocal calls
        calls += model.training  # evaluation has a forward pass too
        if calls == step:
            signal.raise_signal(signal.SIGINT)

    if part == "callback":
        return [count]
    if part == "forward":
        model[0][0].register_forward_pre_hook(count)
    elif part == "backward":
        model[0][0].weight.register_hook(count)
    else:
        usual = torch.optim.SGD.step
        monkeypatch.setattr(torch.optim.SGD, "step", lambda self, *a, **k: [count(), usual(self, *a, **k)][1])
    return []


@pytest.mark.parametrize("part", ["forward", "backward", "optimizer", "callback"])
@pytest.mark.parametrize("step", range(1, 11))
def test_interrupted_at_any_step_what_was_learnt_is_kept_and_training_can_go_on(step, part, monkeypatch, capsys):
    model, alone, data = net(), net(), images(40)
    done = step if part == "callback" else step - 1
    with monkeypatch.context() as patch:
        history = quiet(model, data, callbacks=press(part, step, model, patch), validation=images(10, seed=1))
    assert history.stopped == f"interrupted at step {done} of 10"
    assert capsys.readouterr().out == f"Stopped: {history.stopped}. The network keeps what it has learnt so far.\n"
    steps = train(alone, data, PLAIN)
    losses = [float(next(steps).loss) for _ in range(done)]
    assert history.losses == losses and history.images == 8 * done
    assert len(history.epochs) == (step - 1) // 5, "an epoch that was interrupted in its last step isn't validated"
    learnt, expected = dict(model.named_parameters()), dict(alone.named_parameters())
    assert same(learnt, expected), "not half a step more"
    assert not model.training
    quiet(model, data)
    assert not same(dict(model.named_parameters()), expected)


# --- a callback that raises -------------------------------------------------------------------------------------------


class Mine:
    def __call__(self, step):
        raise LookupError("mine")


@pytest.mark.parametrize("step", [1, 5, 10])
def test_what_a_callback_raises_comes_out_as_it_is_with_a_note_of_where(step):
    def notice(now):
        if now.number == step:
            raise ZeroDivisionError("mine")

    model, whole = net(), net()
    with pytest.raises(ZeroDivisionError) as caught:
        quiet(model, images(40), callbacks=[notice])
    assert str(caught.value) == "mine"
    (note,) = caught.value.__notes__
    assert note == f"Raised by the callback 'notice' at step {step} of 10. The network keeps what it has learnt so far."
    steps = train(whole, images(40), PLAIN)
    for _ in range(step):
        next(steps)
    assert same(copy_of(model), copy_of(whole)) and not model.training


def test_a_callback_that_is_an_object_is_named_by_its_class():
    with pytest.raises(LookupError) as caught:
        quiet(net(), images(40), callbacks=[Mine()])
    assert "'Mine' at step 1 of 10" in caught.value.__notes__[0]


# --- memory -----------------------------------------------------------------------------------------------------------


class Hungry(nn.Module):
    """A network for which `room` images at a time fit. `seen`: the batches that were tried."""

    def __init__(self, room, error):
        super().__init__()
        self.net, self.room, self.error, self.seen = net(), room, error, []

    def forward(self, x):
        self.seen.append(len(x))
        if len(x) > self.room:
            raise self.error
        return self.net(x)


CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore words.")
CPU = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")


@pytest.mark.parametrize("error", [CUDA, CPU, MemoryError()], ids=["CUDA", "CPU", "Python"])
@pytest.mark.parametrize("room", [1, 2, 7, 20, 33, 63])
def test_out_of_memory_names_about_the_largest_batch_that_fits_and_changes_nothing(room, error):
    model, recipe = Hungry(room, error), replace(PLAIN, batch_size=64)
    before = copy_of(model)
    with pytest.raises(OutOfMemory) as caught:
        quiet(model, images(200), recipe)
    largest, message = caught.value.largest_batch, str(caught.value)
    assert room * 7 / 8 - 1 <= largest <= room and largest in model.seen
    assert "memory ran out at step 1 of 6, on " in message and "with a batch of 64 images" in message
    words = "1 image" if largest == 1 else f"{largest} images"
    assert (
        f"There is room for about {words}: take Recipe(batch_size={largest})" in message and "More words" not in message
    )
    assert same(copy_of(model), before), "batch norm's statistics as well"
    assert all(p.grad is None for p in model.parameters()) and recipe.batch_size == 64
    assert quiet(model, images(200), replace(recipe, batch_size=largest)).stopped is None


def test_memory_that_runs_out_later_keeps_what_was_learnt():
    model, whole = Hungry(64, CUDA), net()

    def shrink(step):
        if step.number == 2:
            model.room = 10

    with pytest.raises(OutOfMemory, match="at step 3 of 6") as caught:
        quiet(model, images(200), replace(PLAIN, batch_size=64), callbacks=[shrink])
    steps = train(whole, images(200), replace(PLAIN, batch_size=64))
    next(steps), next(steps)
    assert same(copy_of(model.net), copy_of(whole)) and caught.value.largest_batch in (9, 10)


def test_if_not_one_image_fits_it_is_the_network():
    with pytest.raises(OutOfMemory, match="Not even one image fits: take fewer channels") as caught:
        quiet(Hungry(0, CUDA), images(200))
    assert caught.value.largest_batch == 0


def test_a_batch_larger_than_the_data_is_the_data():
    with pytest.raises(OutOfMemory, match="with a batch of 40 images"):
        quiet(Hungry(5, CUDA), images(40), replace(PLAIN, batch_size=5000))


def test_any_other_error_in_a_step_is_not_taken_for_memory():
    with pytest.raises(RuntimeError, match=r"^shapes") as caught:
        quiet(Hungry(0, RuntimeError("shapes cannot be multiplied")), images(40))
    assert not isinstance(caught.value, TrainingError)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("room", [1, 30, 99])
def test_evaluation_takes_as_many_images_as_fit_which_changes_no_result(room, training):
    model, data = Hungry(room, CUDA).train(training), images(200)
    before = copy_of(model)
    found = evaluate(model, data, batch_size=100)
    wanted = evaluate(model.net, data, batch_size=100)
    assert torch.equal(found.predictions, wanted.predictions) and found.loss == pytest.approx(wanted.loss, abs=1e-5)
    assert max(model.seen) == 100 and model.seen[-1] <= room, "it began with what it was told"
    assert same(copy_of(model), before) and model.training is training, "batch norm's statistics as well"


def test_if_not_one_image_can_be_evaluated_it_is_the_network():
    with pytest.raises(
        OutOfMemory, match=r"^memory ran out in evaluation, with a single image \(CUDA out .*take fewer"
    ):
        evaluate(Hungry(0, CUDA), images(20))


def test_validation_that_takes_more_memory_than_a_step_ends_no_training():
    model = Hungry(40, CUDA)
    history = quiet(model, images(80), validation=images(200, seed=1))
    assert [epoch["validation_accuracy"] is None for epoch in history.epochs] == [False, False]


class Immovable(nn.Sequential):
    """A network whose weights alone are too large for the device."""

    def _apply(self, *arguments, **options):
        raise CUDA


@pytest.mark.parametrize(
    ("call", "where"),
    [
        (quiet, "while the network was moved to cpu"),
        (evaluate, "while the network was moved to cpu"),
        (
            lambda model, _: inference_throughput(model, (1, 28, 28)),
            "while throughput was measured, with a batch of 256",
        ),
    ],
    ids=["fit", "evaluate", "inference_throughput"],
)
def test_a_network_that_does_not_fit_on_the_device_is_said(call, where):
    with pytest.raises(OutOfMemory) as caught:
        call(Immovable(nn.Flatten(), nn.Linear(784, 10)), images(40))
    assert str(caught.value).startswith(f"memory ran out {where}") and "(CUDA out of memory. Tried" in str(caught.value)
    assert "More words" not in str(caught.value)


def test_weights_that_are_too_many_are_said():
    with pytest.raises(OutOfMemory, match=r"^memory ran out while VGG \(1\) .* was built \(.*take fewer channels"):
        build(vgg_like((1,), (10**14,)))


@pytest.mark.parametrize("batch_size", [10**12, 10**18], ids=["too many bytes", "too many to count"])
def test_a_batch_that_is_too_large_to_be_made_is_said(batch_size):
    with pytest.raises(OutOfMemory, match=f"with a batch of {batch_size:,} images of .*smaller batch_size"):
        inference_throughput(net(), (1, 28, 28), batch_size=batch_size)


def test_who_interrupts_the_search_keeps_the_network_and_hears_that_memory_ran_out():
    model = Hungry(10, CUDA)

    def impatient(self, _):
        if len(self.seen) == 5:  # in the search: batch norm and the weights have moved
            raise KeyboardInterrupt

    model.register_forward_pre_hook(impatient)
    before = copy_of(model)
    with pytest.raises(OutOfMemory, match="You have stopped the search for a batch that fits") as caught:
        quiet(model, images(200), replace(PLAIN, batch_size=64))
    assert len(model.seen) == 5 and same(copy_of(model), before) and caught.value.largest_batch == 0


def test_one_image_that_batch_norm_cannot_train_on_does_not_fit():
    model = Hungry(1, CUDA)
    model.net = nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    before = copy_of(model)
    with pytest.raises(OutOfMemory, match="Not even one image fits"):
        quiet(model, images(200), replace(PLAIN, batch_size=64))
    assert same(copy_of(model), before) and 1 in model.seen


@pytest.mark.parametrize("room", [*range(0, 40), 99, 100])
def test_the_search_is_right_to_within_an_eighth_and_short(room):
    tried = []

    def try_it(batch):
        tried.append(batch)
        if batch > room:
            raise CUDA

    largest = largest_that_fits(try_it, 101, torch.device("cpu"))
    assert largest <= room and (largest == 0) == (room == 0)
    assert room - largest <= max(0, largest // 8) and len(tried) <= 12 and len(set(tried)) == len(tried)


def test_the_search_raises_what_is_not_memory():
    def try_it(batch):
        raise RuntimeError("another fault")

    with pytest.raises(RuntimeError, match="another fault"):
        largest_that_fits(try_it, 64, torch.device("cpu"))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CUDA, True),
        (CPU, True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_what_says_that_memory_ran_out(error, expected):
    assert is_out_of_memory(error) is expected


STARVED = """
import resource, sys
import utils, torch, torch._dynamo
from utils.architectures import vgg_like
from utils.data import Images
from utils.models import build
from utils.training import Recipe, fit

torch.set_num_threads(1)
n = 6000
data = Images(torch.zeros(n, 1, 28, 28, dtype=torch.uint8), torch.arange(n) % 10)
net = build(vgg_like((1,), (64,)))
recipe = Recipe(epochs=1, batch_size=4, dtype="float32")
fit(net, data.take(8), recipe, progress=False)                 # all that is loaded but once
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400_000_000,) * 2)
try:
    fit(net, data, Recipe(epochs=1, batch_size=n, dtype="float32"), progress=False)
except RuntimeError as error:
    print(type(error).__name__, error.largest_batch, error)
    smaller = Recipe(epochs=1, batch_size=error.largest_batch, dtype="float32")
    fit(net, data.take(4 * error.largest_batch), smaller, progress=False)
    print("fits")
"""


@pytest.mark.system
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="a limit on memory is set as Linux has it")
def test_a_process_whose_memory_really_is_short_is_told_a_batch_that_fits():
    # What is freed goes back at once, as a GPU's does. As glibc is set otherwise, it keeps up to half of the room in
    # pieces and in reserved heaps, another half each time, and what fits has no one answer.
    tidy = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
    run = subprocess.run(
        [sys.executable, "-c", STARVED], capture_output=True, text=True, cwd=ROOT, env=os.environ | tidy
    )
    name, largest, *_ = run.stdout.split() or ["nothing", 0]
    assert name == "OutOfMemory" and run.stdout.endswith("fits\n"), run.stdout + run.stderr
    # 64 maps of 28×28 floats, 200,704 bytes, are kept at least twice an image: no more than 1,000 fit into 400 MB.
    assert 10 < int(largest) < 1000, run.stdout


# --- nothing learnt ---------------------------------------------------------------------------------------------------


def test_a_network_that_learns_nothing_is_told_so(capsys):
    model = net(SMALL.change(norm="none"))
    for p in model.parameters():
        nn.init.zeros_(p)  # every unit is dead: nothing but the last biases can move
    recipe = Recipe(epochs=10, batch_size=20, lr=0.01, momentum=0.0, dtype="float32")
    history = fit(model, images(100), recipe)
    assert history.warning.startswith("the loss stayed at ln 10 = 2.303 (it is 2.3")
    assert 'try norm="batch"; or init="he"' in history.warning and "lr=0.01, try a third" in history.warning
    assert "or the rate is far too low" in history.warning
    assert "clinic in lesson 04" in history.warning
    assert capsys.readouterr().out == f"Look out: {history.warning}.\n"
    assert history.to_dict()["warning"] == history.warning


def test_a_network_that_learns_gets_no_warning_and_a_silent_fit_prints_none(tiny, capsys):
    history = quiet(net(vgg_like((1,), (4,))), tiny.train, replace(PLAIN, epochs=4))
    assert len(history.losses) > 50 and history.losses[-1] < 2 and history.warning is None
    model = net(SMALL.change(norm="none"))
    for p in model.parameters():
        nn.init.zeros_(p)
    assert quiet(model, images(40), replace(PLAIN, epochs=30, lr=1e-5)).warning and capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("losses", "classes", "expected"),
    [
        ([math.log(10)] * 49, 10, False),  # too few steps to say so
        ([math.log(10)] * 50, 10, True),
        ([5.0] * 100 + [math.log(10) + 0.02] * 400, 10, True),
        ([2.34] * 100, 10, True),  # dead, and a high rate moves the last biases to and fro
        ([2.5] * 100, 10, False),  # that is another disease
        ([math.log(10)] * 400 + [2.2] * 100, 10, False),  # it has begun to learn
        ([1.0] * 400 + [math.log(10)] * 100, 10, True),  # it had learnt, and died
        ([math.log(2)] * 100, 10, False),
        ([math.log(2)] * 100, 2, True),
        ([0.0] * 100, 1, False),  # of one class there is nothing to learn
    ],
)
def test_chance_is_the_logarithm_of_the_number_of_classes(losses, classes, expected):
    found = learnt_nothing(losses, torch.arange(100) % classes, 0.1)
    assert (found is not None) is expected
    if found:
        uniform = F.cross_entropy(torch.zeros(1, classes), torch.zeros(1, dtype=torch.int64))
        assert f"ln {classes} = {float(uniform):.3f}" in found


def test_the_faults_know_nothing_of_the_loop():
    """`training` imports them, not the other way round."""
    assert "utils.training" not in inspect.getsource(faults)
