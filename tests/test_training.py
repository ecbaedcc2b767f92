"""utils/training.py: the promises of a recipe, the loop, `fit` and `evaluate`, held against loops written out here."""

import itertools
import json
import math
from dataclasses import FrozenInstanceError, asdict, fields, replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_pre_hook

from utils import data, device, training
from utils.architectures import LENET, vgg_like
from utils.data import Images
from utils.models import build
from utils.training import (
    SCHEDULES,
    History,
    Recipe,
    StopTraining,
    TrainingError,
    count_steps,
    evaluate,
    fit,
    train,
)

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here"))]
PLAIN = Recipe(epochs=2, batch_size=8, lr=0.05, dtype="float32")

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.torch]


def images(n, *, seed=0, like=None):
    """`n` random images, labelled 0, 1 … 9, 0, 1 …; or `n` times the one image `like`."""
    pixels = torch.randint(256, (n, 1, 28, 28), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Images(pixels if like is None else like.expand(n, 1, 28, 28).clone(), torch.arange(n) % 10)


@pytest.fixture(scope="module")
def sample():
    contents, source = data._from_sample(lambda line: None)
    return data._assemble(contents, source, torch.device("cpu"), is_sample=True)


class Watched:
    """Images that keep what they were asked for, and call `then` with the number of the batch, from 1."""

    def __init__(self, images, then=lambda number: None):
        self.images, self.labels, self.device, self.then, self.asked = images, images.labels, images.device, then, []

    def __len__(self):
        return len(self.images)

    def batch(self, index, **options):
        x, y = self.images.batch(index, **options)
        self.asked.append(SimpleNamespace(index=index.tolist(), x=x, y=y, **options))
        changed = self.then(len(self.asked))
        return (x, y) if changed is None else (changed(x), y)

    @property
    def orders(self):
        return [asked.index for asked in self.asked]


def net(dropout=0.5):
    """A small network with all that could go wrong: convolution, batch norm, dropout, dense."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 5, stride=2, bias=False),  # batch norm would take a bias away again: its gradient is noise
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 8, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(200, 10),
    )


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def quiet(model, data, recipe=PLAIN, **options):
    return fit(model, data, recipe, **{"progress": False} | options)


def same(a, b):
    """Do both networks have the same parameters and buffers, bit by bit?"""
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def timeless(history):
    return replace(history, seconds=0.0)


# --- the recipe -------------------------------------------------------------------------------------------------------

WHOLE = "a whole number of at least 1"
SHARE = "a share from 0 up to, not including, 1"
BAD = {
    "epochs": (WHOLE, [0, -1, 1.0, True, "3", None]),
    "batch_size": (WHOLE, [0, -128, 128.0, False, None]),
    "optimizer": ("one of 'sgd', 'adamw'", ["adam", "SGD", "", None, ["sgd"]]),
    "lr": ("a number above 0", [0, -0.1, math.nan, math.inf, "0.1", True, None]),
    "momentum": (SHARE, [1, -0.1, 1.5, math.nan, "0.9", None, True]),
    "weight_decay": ("a number of at least 0", [-1e-9, math.nan, math.inf, "0", None, False]),
    "schedule": ("one of 'one-cycle', 'cosine', 'constant'", ["one_cycle", "linear", None]),
    "augment": ("one of 'none', 'flip', 'flip+shift'", ["shift", None, True, False]),
    "label_smoothing": (SHARE, [1, -0.1, math.nan, "0.1", None]),
    "dtype": ("one of 'auto', 'float32', 'bfloat16', 'float16'", ["bf16", torch.bfloat16, None]),
    "channels_last": ("True or False", [1, 0, "yes", None]),
    "compile": ("True or False", [1, 0, "no", None]),
}


def test_every_field_of_a_recipe_is_checked():
    assert BAD.keys() == {field.name for field in fields(Recipe)}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, (_, bad) in BAD.items() for value in bad])
def test_a_bad_field_is_named_with_what_it_got_and_what_would_work(field, value):
    with pytest.raises(ValueError) as caught:
        Recipe(**{field: value})
    assert str(caught.value) == f"{field} must be {BAD[field][0]}, got {value!r}"
    with pytest.raises(ValueError, match=f"^{field} must be "):
        replace(Recipe(), **{field: value})


def test_the_ends_of_the_ranges_are_allowed():
    Recipe(epochs=1, batch_size=1, lr=1, momentum=0, weight_decay=0, label_smoothing=0)
    Recipe(lr=1e-9, momentum=0.999, weight_decay=10.0, label_smoothing=0.999)


def test_a_recipe_cannot_be_changed_unchecked():
    with pytest.raises(FrozenInstanceError):
        Recipe().lr = -1


def test_a_recipe_may_ask_for_all_that_the_data_and_the_device_offer():
    assert training.AUGMENTATIONS == data.AUGMENTATIONS
    assert {Recipe(dtype=name).dtype for name in device.DTYPES} == set(device.DTYPES)


# --- steps and their order --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "batch_size", "epochs", "per_epoch"),
    [(10, 4, 3, 2), (12, 4, 3, 3), (4, 4, 2, 1), (3, 4, 2, 1), (1, 128, 1, 1), (9, 1, 2, 9)],
)
def test_a_last_batch_that_is_not_full_is_left_out(n, batch_size, epochs, per_epoch):
    watched, recipe = Watched(images(n)), replace(PLAIN, batch_size=batch_size, epochs=epochs)
    assert count_steps(watched, recipe) == (per_epoch, epochs * per_epoch)
    steps = list(train(linear(), watched, recipe))
    in_batch = min(n, batch_size)  # fewer images than a batch: one step with all of them
    for number, (step, order) in enumerate(zip(steps, watched.orders, strict=True), start=1):
        assert (step.number, step.total, step.steps_per_epoch) == (number, epochs * per_epoch, per_epoch)
        assert len(order) == in_batch and step.images == number * in_batch
        assert step.ends_epoch == (number in range(per_epoch, epochs * per_epoch + 1, per_epoch))


def test_each_epoch_sees_each_image_once_in_a_new_order():
    watched = Watched(images(40))
    list(train(linear(), watched, replace(PLAIN, epochs=3)))
    epochs = [list(itertools.chain(*watched.orders[start : start + 5])) for start in (0, 5, 10)]
    assert all(sorted(epoch) == list(range(40)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in [*epochs, range(40)]}) == 4


def test_what_an_epoch_left_out_another_sees():
    watched = Watched(images(15))
    list(train(linear(), watched, replace(PLAIN, epochs=20)))
    assert all(len(set(order)) == 8 for order in watched.orders)
    assert set(itertools.chain(*watched.orders)) == set(range(15))


@pytest.mark.parametrize("recipe", [PLAIN, replace(PLAIN, augment="flip+shift"), replace(PLAIN, optimizer="adamw")])
def test_the_same_seed_gives_the_same_history_and_network(recipe):
    runs = []
    for disturbance in (0, 1):
        model = net()
        torch.manual_seed(disturbance)  # whatever was drawn before
        torch.rand(7 * disturbance)
        runs.append((model, quiet(model, images(33), recipe, seed=3, validation=images(9, seed=1))))
    (one, first), (two, second) = runs
    assert timeless(first) == timeless(second) and same(one, two)
    other_net = net()
    other = quiet(other_net, images(33), recipe, seed=4, validation=images(9, seed=1))
    assert other.seed == 4 and set(other.losses).isdisjoint(first.losses) and other.epochs != first.epochs
    assert not same(one, other_net)


def test_the_seed_decides_the_order():
    orders = []
    for seed in (0, 0, 1):
        watched = Watched(images(40))
        list(train(linear(), watched, PLAIN, seed=seed))
        orders.append(watched.orders)
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("augment", ["flip", "flip+shift"])
def test_the_seed_decides_the_augmentation(augment):
    seen = []
    for seed in (0, 0, 1):
        # All images are the same one: their order is nothing that could be seen.
        watched = Watched(images(32, like=images(1).pixels))
        list(train(linear(), watched, replace(PLAIN, augment=augment), seed=seed))
        seen.append(torch.cat([asked.x for asked in watched.asked]))
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])


def test_the_seed_decides_the_dropout():
    alike = images(32, like=images(1).pixels)
    alike.labels.fill_(3)
    first, second, other = (quiet(net(), alike, seed=seed).losses for seed in (0, 0, 1))
    assert first == second and first != other
    assert quiet(net(0), alike, seed=0).losses == quiet(net(0), alike, seed=1).losses, "without it nothing is random"


def test_augmentation_only_where_asked():
    for augment in training.AUGMENTATIONS:
        watched, held_out = Watched(images(40)), Watched(images(13, seed=1))
        quiet(net(), watched, replace(PLAIN, augment=augment), validation=held_out)
        assert {asked.augment for asked in watched.asked} == {augment}
        for asked in watched.asked:
            plain, flipped = (watched.images.batch(torch.tensor(asked.index))[0].flip(dims) for dims in ((), (3,)))
            unchanged = (asked.x == plain).flatten(1).all(1)
            mirrored = (asked.x == flipped).flatten(1).all(1)
            if augment == "none":
                assert unchanged.all()
            if augment == "flip":
                assert (unchanged ^ mirrored).all()
        assert all(torch.equal(asked.x, held_out.images.batch(slice(None))[0]) for asked in held_out.asked)
        assert {asked.augment for asked in held_out.asked} == {"none"}


def test_images_come_in_the_size_that_was_asked_for():
    watched, held_out = Watched(images(8)), Watched(images(5))
    model = nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, 10))
    quiet(model, watched, image_size=32, validation=held_out)
    evaluate(model, held_out, image_size=32)
    assert {asked.x.shape[1:] for asked in watched.asked + held_out.asked} == {(1, 32, 32)}


# --- the loop may be watched, paused and left -------------------------------------------------------------------------


def test_nothing_is_trained_before_the_first_step_is_asked_for():
    model, watched = net(), Watched(images(40))
    steps = train(model, watched, PLAIN)
    assert not watched.asked and same(model, net())
    next(steps)
    assert len(watched.asked) == 1 and not same(model, net())


def test_the_generator_can_be_closed_early():
    model, watched = net(), Watched(images(40))
    steps = train(model, watched, PLAIN)
    losses = [float(step.loss) for step in itertools.islice(steps, 3)]
    steps.close()
    assert list(steps) == [] and len(watched.asked) == 3
    again = net()
    assert [float(step.loss) for step in train(again, images(40), PLAIN)][:3] == losses
    quiet(model, images(40))  # and it can be trained further
    assert not same(model, again)


def test_training_is_in_training_mode_whatever_happens_in_between():
    modes, plain = [], net()
    model = net()
    model[0].register_forward_hook(lambda module, args, output: modes.append(module.training))
    model.eval()
    losses = []
    for step in train(model, images(40), PLAIN):
        losses.append(float(step.loss))
        before = {name: value.clone() for name, value in model.state_dict().items()}
        model.eval()
        evaluate(model, images(7))
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert modes == [True, False] * 10
    assert losses == [float(step.loss) for step in train(plain, images(40), PLAIN)], "looking changes nothing"
    assert same(model, plain)


def test_reading_a_loss_later_gives_that_steps_loss():
    steps = list(train(net(), images(40), PLAIN))
    assert [float(step.loss) for step in steps] == quiet(net(), images(40)).losses
    assert all(step.loss.shape == () and not step.loss.requires_grad for step in steps)


# --- learning rates ---------------------------------------------------------------------------------------------------


def one_cycle(k, total, lr):
    """Smith & Topin's, annealed by cosines: from lr/25 to lr over the first 30 % of total + 1, then to lr/250,000."""
    peak = 0.3 * (total + 1) - 1
    start, end, share = (lr / 25, lr, k / peak) if k <= peak else (lr, lr / 250_000, (k - peak) / (total - peak))
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


RATES = {
    "one-cycle": one_cycle,
    "cosine": lambda k, total, lr: lr * (1 + math.cos(math.pi * k / total)) / 2,
    "constant": lambda k, total, lr: lr,
}


@pytest.fixture
def groups():
    """What the optimiser's first group was at each of its steps, from `register_optimizer_step_pre_hook`."""
    seen = []
    handle = register_optimizer_step_pre_hook(
        lambda optimizer, args, kwargs: seen.append({k: v for k, v in optimizer.param_groups[0].items()})
    )
    yield seen
    handle.remove()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("epochs", "per_epoch"), [(1, 1), (2, 1), (1, 2), (1, 3), (3, 1), (2, 5), (1, 37)])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_learning_rate_at_each_step(groups, schedule, epochs, per_epoch, optimizer):
    recipe = Recipe(
        epochs=epochs, batch_size=1, lr=0.02, schedule=schedule, optimizer=optimizer, momentum=0.8, dtype="float32"
    )
    quiet(linear(), images(per_epoch), recipe)
    total = epochs * per_epoch
    rates = [group["lr"] for group in groups]
    assert rates == pytest.approx([RATES[schedule](k, total, 0.02) for k in range(total)], rel=1e-6)
    assert all(0 < rate <= 0.02 for rate in rates), "no step is wasted"
    if optimizer == "sgd":
        assert {group["momentum"] for group in groups} == {0.8}, "one-cycle moves the rate alone"


def test_one_cycle_goes_up_over_the_first_30_percent_and_down_after(groups):
    quiet(linear(), images(99), replace(PLAIN, epochs=1, batch_size=1, lr=0.02))
    rates = [group["lr"] for group in groups]
    top = rates.index(max(rates))
    assert len(rates) == 99 and top == 29 and rates[top] == pytest.approx(0.02)
    assert rates[: top + 1] == sorted(rates[: top + 1]) and rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 0.02 / 1000


# --- optimisers -------------------------------------------------------------------------------------------------------

PARTS = {"foreach": False, "fused": False}
BY_HAND = {
    "nesterov": (
        {"momentum": 0.9, "weight_decay": 5e-4},
        lambda p: torch.optim.SGD(p, lr=1, momentum=0.9, nesterov=True, weight_decay=5e-4, **PARTS),
    ),
    "nesterov, little momentum": (
        {"momentum": 0.3, "weight_decay": 0.1},
        lambda p: torch.optim.SGD(p, lr=1, momentum=0.3, nesterov=True, weight_decay=0.1, **PARTS),
    ),
    "no momentum": (
        {"momentum": 0, "weight_decay": 0},
        lambda p: torch.optim.SGD(p, lr=1, **PARTS),
    ),
    "adamw": (
        {"optimizer": "adamw", "lr": 2e-3, "weight_decay": 0.05},
        lambda p: torch.optim.AdamW(p, lr=1, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05, **PARTS),
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("more", [{}, {"schedule": "constant"}, {"schedule": "cosine", "label_smoothing": 0.2}])
def test_the_same_weights_as_a_loop_by_hand(name, more):
    changes, make = BY_HAND[name]
    recipe = replace(PLAIN, **changes, **more)
    model, watched = net(), Watched(images(35))
    losses = quiet(model, watched, recipe, seed=5).losses

    by_hand = net()
    optimizer = make(by_hand.parameters())
    torch.manual_seed(5)  # for the dropout
    for k, asked in enumerate(watched.asked):
        optimizer.param_groups[0]["lr"] = RATES[recipe.schedule](k, 8, recipe.lr)
        by_hand.train()
        logits = by_hand(asked.x)
        wanted = F.one_hot(asked.y, 10) * (1 - recipe.label_smoothing) + recipe.label_smoothing / 10
        loss = -(wanted * logits.log_softmax(dim=1)).sum(dim=1).mean()
        assert losses[k] == pytest.approx(loss.item(), rel=1e-4)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert len(losses) == len(watched.asked) == 8
    for (key, value), other in zip(model.state_dict().items(), by_hand.state_dict().values(), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-3, atol=1e-5, msg=lambda said, key=key: f"{key}: {said}")
    moved = [(a - b).abs().max() for a, b in zip(by_hand.parameters(), net().parameters(), strict=True)]
    assert min(moved) > 1e-3, "or else this shows nothing"


class Indifferent(nn.Module):
    """All its parameters have a gradient, and it is zero; but `unused` has none, and `frozen` is not to be trained."""

    def __init__(self):
        super().__init__()
        self.net = net()
        for parameter in self.net.parameters():
            nn.init.uniform_(parameter, 0.5, 1.5)
        self.unused, self.frozen = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, x):
        return 0 * self.net(x) + self.frozen.sum()


@pytest.mark.parametrize("optimizer", training.OPTIMIZERS)
@pytest.mark.parametrize("decay", [0, 0.5])
def test_every_trained_parameter_decays_alike(optimizer, decay):
    """Weights, biases and batch norm's: nothing but the decay moves them here."""
    model = Indifferent()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    recipe = Recipe(
        epochs=1, batch_size=8, optimizer=optimizer, lr=0.1, momentum=0, weight_decay=decay, schedule="constant",
        dtype="float32",
    )  # fmt: skip
    quiet(model, images(24), recipe)
    for name, value in model.named_parameters():
        factor = 1 if name in ("unused", "frozen") else (1 - 0.1 * decay) ** 3
        torch.testing.assert_close(value.detach(), before[name] * factor, msg=lambda said, name=name: f"{name}: {said}")


# --- dtypes and memory formats ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("where", DEVICES)
def test_half_precision_trains_nearly_as_float32(dtype, where):
    outputs = set()
    model, plain = net(0), net(0)
    model[3].register_forward_hook(lambda module, args, output: outputs.add((module.training, output.dtype)))
    here, held_out = images(40).to(where), images(20, seed=1).to(where)
    half = quiet(model, here, replace(PLAIN, dtype=dtype, lr=0.01), validation=held_out)
    full = quiet(plain, here, replace(PLAIN, dtype="float32", lr=0.01), validation=held_out)
    assert outputs == {(True, getattr(torch, dtype)), (False, torch.float32)}, "evaluated in float32"
    assert (half.dtype, full.dtype) == (dtype, "float32")
    assert half.losses == pytest.approx(full.losses, rel=0.02) and half.losses != full.losses
    assert half.epochs[-1]["validation_loss"] == pytest.approx(full.epochs[-1]["validation_loss"], rel=0.02)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("where", DEVICES)
def test_small_gradients_survive_float16(where):
    """Each is below 2⁻²⁵ here, which float16 rounds to 0, unless the loss is scaled up."""

    class Faint(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear()

        def forward(self, x):
            return self.linear(x) * 1e-7

    moved = {}
    for dtype in ("float32", "float16"):
        model = Faint()
        quiet(model, images(16).to(where), replace(PLAIN, dtype=dtype, lr=1e6, weight_decay=0, momentum=0))
        moved[dtype] = model.linear[1].weight.detach().cpu() - linear()[1].weight
    assert moved["float32"].abs().max() > 0.01
    torch.testing.assert_close(moved["float16"], moved["float32"], rtol=0.05, atol=1e-3)


def test_auto_is_what_was_measured_to_be_fastest(monkeypatch):
    for name in ("bfloat16", "float32"):
        monkeypatch.setattr(device, "fastest_dtype", lambda where, name=name: getattr(torch, name))
        auto, named = (quiet(net(), images(40), replace(PLAIN, dtype=dtype)) for dtype in ("auto", name))
        assert auto.dtype == named.dtype == name and auto.recipe["dtype"] == "auto"
        assert auto.losses == named.losses


def test_channels_last_changes_the_memory_and_not_the_result():
    losses, formats = {}, {}
    for asked in (True, False):
        model = net()
        seen = formats[asked] = []
        model[3].register_forward_hook(lambda module, args, output, seen=seen: seen.append(output.stride(1) == 1))
        losses[asked] = quiet(model, images(40), replace(PLAIN, channels_last=asked)).losses
        assert model[3].weight.is_contiguous(memory_format=torch.channels_last) == asked
    assert formats == {True: [True] * 10, False: [False] * 10}
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)


@pytest.mark.parametrize("asked", [True, False])
def test_colour_images_go_in_channels_last_too(asked):
    """Of one channel, as Fashion-MNIST has, there is no first or last."""
    model, seen = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(10)), []
    model(torch.zeros(1, 3, 28, 28))
    model[0].register_forward_pre_hook(lambda module, args: seen.append(args[0].stride(1) == 1))
    colour = Watched(images(16), lambda number: lambda x: torch.cat([x, -x, x / 2], dim=1))
    quiet(model, colour, replace(PLAIN, channels_last=asked))
    assert seen == [asked] * 4


@pytest.mark.parametrize("asked", [True, False])
def test_compiled_only_where_asked(monkeypatch, asked):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    model = linear()
    quiet(model, images(8), replace(PLAIN, compile=asked))
    assert compiled == [model] * asked


# --- losses that are no numbers ---------------------------------------------------------------------------------------


def spoil(at, value):
    """For `Watched`: from batch `at` on, the images' pixels are `value`."""
    return lambda number: (lambda x: torch.full_like(x, value)) if number >= at else None


class Certain(nn.Module):
    """Sure that all is of class 0, as soon as it sees a white image: the loss of any other is infinite."""

    def __init__(self):
        super().__init__()
        self.linear = linear()

    def forward(self, x):
        never = torch.where(torch.arange(10) == 0, 0.0, -math.inf)
        return self.linear(x) + (never if x.mean() > 100 else 0)


@pytest.mark.parametrize("at", [1, 2, 4, 5, 7, 8])
@pytest.mark.parametrize(("model", "pixels", "found"), [(net, math.nan, "nan"), (Certain, 1000.0, "inf")])
@pytest.mark.parametrize("look_every", [0.0, 1000.0])
def test_the_first_loss_that_is_no_number_is_an_error(monkeypatch, at, model, pixels, found, look_every):
    monkeypatch.setattr(training.Fitting, "SHOW_EVERY", look_every)
    model, watched, losses = model(), Watched(images(32), spoil(at, pixels)), []
    with pytest.raises(TrainingError) as caught:
        quiet(model, watched, replace(PLAIN, lr=0.01), callbacks=[lambda step: losses.append(float(step.loss))])
    good = f"the last good loss was {losses[at - 2]:.4g}" if at > 1 else "it was never a number"
    if found == "nan":
        first = watched.orders[at - 1][0]
        why = f"The cause is in the data: image {first} holds nan. Repair that image or leave it out"
    elif at == 1:
        why = "The images and the weights are all right, so it is the scale"
    else:
        why = (
            "The images and the first weights were all right, so most often the learning rate is too high: it is "
            'lr=0.01, try a third of it. Else try norm="batch"; or init="he"'
        )
    assert str(caught.value).startswith(f"the loss became {found} at step {at} of 8; {good}. {why}")
    ends_epoch = 4 if at <= 4 else 8
    assert len(losses) == (at if look_every == 0 else ends_epoch), "found at the next look, at the epoch's end at most"
    assert not model.training


def test_a_rate_that_is_far_too_high_is_told_so():
    with pytest.raises(TrainingError, match=r"the loss became (nan|inf) at step \d+ of 10; .* it is lr=1e\+30, try a"):
        quiet(net(), images(40), replace(PLAIN, lr=1e30))


@pytest.mark.parametrize("stop", [StopTraining("enough"), KeyboardInterrupt()])
def test_a_loss_that_is_no_number_is_an_error_even_if_someone_stops(monkeypatch, stop):
    monkeypatch.setattr(training.Fitting, "SHOW_EVERY", 1000.0)

    def callback(step):
        if step.number == 3:
            raise stop

    with pytest.raises(TrainingError, match="the loss became nan at step 2 of 8"):
        quiet(net(), Watched(images(32), spoil(2, math.nan)), callbacks=[callback])


# --- stopping ---------------------------------------------------------------------------------------------------------


def at_step(number, error):
    def callback(step):
        if step.number == number:
            raise error

    return callback


def at_batch(number, error):
    def then(batch):
        if batch == number:
            raise error

    return then


INTERRUPTED = "interrupted at step 6 of 10"


@pytest.mark.parametrize(
    ("train_on", "callbacks", "said"),
    [
        (images(40), [at_step(6, StopTraining("the time is up"))], "at step 6 of 10: the time is up"),
        (images(40), [at_step(6, StopTraining())], "at step 6 of 10"),
        (images(40), [at_step(6, KeyboardInterrupt())], INTERRUPTED),
        (Watched(images(40), at_batch(7, KeyboardInterrupt())), [], INTERRUPTED),
    ],
    ids=["StopTraining with a reason", "StopTraining", "Ctrl-C in a callback", "Ctrl-C in a step"],
)
def test_who_stops_keeps_what_was_learnt(capsys, train_on, callbacks, said):
    model, whole, held_out = net(), net(), images(9, seed=1)
    history = quiet(model, train_on, callbacks=callbacks, validation=held_out)
    losses = [float(step.loss) for step in itertools.islice(train(whole, images(40), PLAIN), 6)]
    assert history.losses == losses and history.images == 48 and history.total_steps == 10
    assert same(model, whole) and not model.training
    assert [row["epoch"] for row in history.epochs] == [1]
    assert history.stopped == said
    by_hand = "interrupted" in said  # a callback that stops knows what it does; who presses ■ is told
    out = capsys.readouterr().out
    assert out == (f"Stopped: {said}. The network keeps what it has learnt so far.\n" if by_hand else "")


def test_an_interrupt_before_the_first_step_leaves_an_empty_history():
    model = net()
    history = quiet(model, Watched(images(40), at_batch(1, KeyboardInterrupt())))
    assert (history.losses, history.epochs, history.images) == ([], [], 0)
    assert history.stopped == "interrupted at step 0 of 10" and same(model, net())


def test_an_interrupt_during_validation_keeps_the_epoch_before_it():
    history = quiet(net(), images(40), validation=Watched(images(9), at_batch(2, KeyboardInterrupt())))
    assert history.stopped == "interrupted at step 10 of 10" and len(history.losses) == 10
    assert [row["epoch"] for row in history.epochs] == [1]


def test_who_runs_to_the_end_was_not_stopped():
    assert quiet(net(), images(40)).stopped is None


@pytest.mark.parametrize("progress", [True, False])
def test_an_exception_in_a_callback_is_not_swallowed(progress):
    error, later, model, watched = ZeroDivisionError("mine"), [], net(), Watched(images(40))
    with pytest.raises(ZeroDivisionError) as caught:
        fit(model, watched, PLAIN, callbacks=[at_step(3, error), later.append], progress=progress)
    assert caught.value is error
    assert [step.number for step in later] == [1, 2] and len(watched.asked) == 3


def test_callbacks_are_called_in_order_with_every_step():
    called = []
    history = quiet(
        net(),
        images(40),
        callbacks=[lambda step: called.append(("a", step.number)), lambda step: called.append(("b", float(step.loss)))],
    )
    assert called[::2] == [("a", number) for number in range(1, 11)]
    assert called[1::2] == [("b", loss) for loss in history.losses]


# --- the history ------------------------------------------------------------------------------------------------------


def test_the_history_says_what_happened():
    model, held_out = net(), images(23, seed=1)
    history = quiet(model, images(37), replace(PLAIN, epochs=3), seed=6, validation=held_out)
    assert history.recipe == asdict(replace(PLAIN, epochs=3)) and Recipe(**history.recipe).epochs == 3
    assert (history.seed, history.device, history.dtype) == (6, device.device_name("cpu"), "float32")
    assert (history.total_steps, history.steps_per_epoch, len(history.losses), history.images) == (12, 4, 12, 96)
    assert history.seconds > 0 and history.images_per_s == 96 / history.seconds
    seen = evaluate(model, held_out)
    assert history.epochs[-1] == {"epoch": 3, "validation_loss": seen.loss, "validation_accuracy": seen.accuracy}
    assert [row["epoch"] for row in history.epochs] == [1, 2, 3]
    assert len({row["validation_loss"] for row in history.epochs}) == 3, "each epoch's own"


def test_a_history_is_plain_data():
    history = quiet(net(), images(40), validation=images(9))
    text = json.dumps(history.to_dict(), allow_nan=False)
    assert json.loads(text) == history.to_dict() and History(**json.loads(text)) == history


def test_the_recipe_may_be_left_out():
    assert fit(linear(), images(10), progress=False).recipe == asdict(Recipe())


def test_without_validation_the_epochs_have_no_figures():
    rows = quiet(net(), images(40)).epochs
    assert rows == [{"epoch": n, "validation_loss": None, "validation_accuracy": None} for n in (1, 2)]


def test_validation_images_are_looked_at_and_never_trained_on():
    with_it, without, held_out = net(), net(), Watched(images(23, seed=1))
    watched = Watched(images(40))
    history = quiet(with_it, watched, replace(PLAIN, augment="flip"), validation=held_out)
    plain = quiet(without, images(40), replace(PLAIN, augment="flip"))
    assert held_out.orders == [list(range(23))] * 2, "all of them, once an epoch"
    assert len(watched.asked) == 10, "and the others in steps alone"
    assert history.losses == plain.losses and same(with_it, without)


class Clock:
    """Stands still but for what the tests let happen on it. A device's work is only done when it is waited for."""

    def __init__(self):
        self.now, self.backlog = 1000.0, 0.0

    def perf_counter(self):
        return self.now

    def wait(self, *args):
        self.now, self.backlog = self.now + self.backlog, 0.0


@pytest.mark.parametrize("look_every", [0.0, 0.5, 3.0, 1000.0])
@pytest.mark.parametrize("stop_at", [None, 7])
def test_the_clock_counts_the_steps_and_not_what_looks_at_them(monkeypatch, look_every, stop_at):
    clock, look = Clock(), training.Fitting._look

    def a_step(number):
        clock.now += 0.25  # to tell the device what to do …
        clock.backlog += 0.75  # … and what it needs to do it, later

    def slow_look(self):
        clock.wait()  # who reads a loss waits for it
        clock.now += 50
        look(self)

    def slow_evaluate(*args, **options):
        clock.now += 100
        return evaluate(*args, **options)

    monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    monkeypatch.setattr(training, "synchronize", clock.wait)
    monkeypatch.setattr(training, "evaluate", slow_evaluate)
    monkeypatch.setattr(training.Fitting, "_look", slow_look)
    monkeypatch.setattr(training.Fitting, "SHOW_EVERY", look_every)
    callbacks = [at_step(stop_at, StopTraining())]
    history = quiet(net(), Watched(images(40), a_step), validation=images(9), callbacks=callbacks)
    assert history.seconds == (stop_at or 10)
    assert history.images_per_s == 8


def test_a_history_without_a_second_has_no_throughput():
    assert math.isnan(History({}, 0, "cpu", "float32", 1, 1).images_per_s)


def test_progress_is_shown_only_if_wanted(capsys):
    fit(net(), images(40), PLAIN, validation=images(9), progress=False)
    assert capsys.readouterr() == ("", "")
    fit(net(), images(40), PLAIN)
    out, err = capsys.readouterr()
    assert out == "" and "/10 [" in err


# --- evaluation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 23, 24])
@pytest.mark.parametrize("batch_size", [1, 5, 8, 500])
def test_evaluate_agrees_with_a_loop_by_hand(n, batch_size):
    model, held_out = net(), images(n)
    held_out.labels.copy_(torch.randint(10, (n,), generator=torch.Generator().manual_seed(1)))
    quiet(model, images(40, seed=2))  # so that batch norm has statistics of its own
    losses, predictions = [], []
    with torch.no_grad():
        for i in range(n):
            x, y = held_out.batch(torch.tensor([i]))
            logits = model(x)[0]
            losses.append(float(logits.exp().sum().log() - logits[y.item()]))
            predictions.append(max(range(10), key=lambda k: logits[k]))
    right = sum(p == y for p, y in zip(predictions, held_out.labels.tolist(), strict=True))
    seen = evaluate(model, held_out, batch_size=batch_size)
    assert seen.loss == pytest.approx(sum(losses) / n, rel=1e-5)
    assert seen.accuracy == pytest.approx(right / n, rel=1e-12)
    assert seen.predictions.tolist() == predictions and len(set(predictions)) > (n > 1)
    assert type(seen.loss) is type(seen.accuracy) is float
    assert seen.predictions.dtype == torch.int64 and seen.predictions.device.type == "cpu"


def test_evaluate_looks_at_every_image_once_in_order_and_unchanged():
    watched = Watched(images(23))
    evaluate(net(), watched, batch_size=10)
    assert watched.orders == [list(range(10)), list(range(10, 20)), [20, 21, 22]]
    assert torch.equal(torch.cat([asked.x for asked in watched.asked]), watched.images.batch(slice(None))[0])


@pytest.mark.parametrize("was_training", [True, False])
def test_evaluate_puts_the_mode_back(was_training):
    modes, model = [], net()
    model[7].register_forward_hook(lambda module, args, output: modes.append((module.training, output.requires_grad)))
    model.train(was_training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, images(9), batch_size=5)
    assert modes == [(False, False)] * 2, "and no gradients are kept for"
    assert {module.training for module in model.modules()} == {was_training}
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt) as caught:
        evaluate(model, Watched(images(9), at_batch(2, error)), batch_size=5)
    assert caught.value is error
    assert {module.training for module in model.modules()} == {was_training}, "when it fails, too"


def test_a_network_is_not_moved_in_inference_mode():
    """What is moved to another device in inference mode cannot be trained afterwards."""

    class Moved(nn.Sequential):
        def _apply(self, function, recurse=True):
            moved_in.append(torch.is_inference_mode_enabled())
            return super()._apply(function, recurse)

    moved_in = []
    evaluate(Moved(*net()), images(9))
    assert moved_in == [False]


@pytest.mark.parametrize("where", DEVICES)
def test_a_network_goes_where_the_data_is(where):
    model, here = net(), images(40).to(where)
    first = evaluate(model, here)  # before it is trained, as a lesson does
    assert first.predictions.device.type == "cpu"
    history = quiet(model, here, validation=here)
    assert {value.device.type for value in model.state_dict().values()} == {where}
    assert history.device == device.device_name(here.device)
    assert evaluate(model, here).loss < first.loss


# --- arguments that make no sense -------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [quiet, lambda model, none: train(model, none, PLAIN)], ids=["fit", "train"])
def test_no_images_to_train_on(call):
    with pytest.raises(ValueError, match=r"^data must hold at least one image, got none$"):
        call(net(), images(0))


@pytest.mark.parametrize("optimizer", training.OPTIMIZERS)
def test_a_network_without_parameters(optimizer):
    with pytest.raises(ValueError, match=r"^model must have at least one parameter to train, got none: add a conv"):
        quiet(nn.Flatten(), images(8), replace(PLAIN, optimizer=optimizer))


def test_a_network_that_is_frozen_whole_and_one_whose_head_is_not():
    model = net().requires_grad_(False)
    with pytest.raises(ValueError, match=r"to train, got none: all are frozen: p\.requires_grad_\(True\) for some$"):
        quiet(model, images(8))
    model[-1].requires_grad_(True)
    before = {name: p.clone() for name, p in model.named_parameters()}
    quiet(model, images(8), replace(PLAIN, batch_size=8))
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {f"{len(model) - 1}.weight", f"{len(model) - 1}.bias"}


@pytest.mark.parametrize("callbacks", [print, [print, 3], iter([print]), "tell"])
def test_callbacks_are_a_list_of_functions(callbacks):
    with pytest.raises(ValueError, match=r"^callbacks must be a list of functions that take a step, got "):
        quiet(net(), images(8), callbacks=callbacks)


def test_what_is_wrong_with_the_validation_images_is_said_of_them(tiny):
    with pytest.raises(ValueError, match=r"^validation must be one set of images, such as .*, got FashionMNIST\("):
        quiet(net(), images(8), validation=tiny)
    with pytest.raises(ValueError, match=r"^validation must hold at least one image, got none$"):
        quiet(net(), images(8), validation=images(0))


def test_validation_images_on_another_device():
    elsewhere = images(8).to("meta")
    with pytest.raises(ValueError, match=r"^validation must be where data is, on cpu, got images on meta$"):
        quiet(net(), images(8), validation=elsewhere)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, None, True])
def test_evaluate_in_batches_of_nothing(batch_size):
    with pytest.raises(ValueError) as caught:
        evaluate(net(), images(8), batch_size=batch_size)
    assert str(caught.value) == f"batch_size must be a whole number of at least 1, got {batch_size!r}"


@pytest.mark.parametrize("call", [quiet, lambda model, data: train(model, data, PLAIN), evaluate])
def test_the_whole_data_set_is_not_one_set_of_images(call, tiny):
    with pytest.raises(
        ValueError, match=r"^data must be one set of images, such as data\.train .*, got FashionMNIST\("
    ):
        call(net(), tiny)


@pytest.mark.parametrize("call", [quiet, lambda model, data: train(model, data, PLAIN), evaluate])
def test_an_architecture_is_not_a_network_yet(call):
    with pytest.raises(ValueError, match=r"^model must be a Module, such as build\(LENET\), got Architecture\("):
        call(LENET, images(8))


@pytest.mark.parametrize(("name", "value"), [("seed", "0"), ("seed", -1), ("image_size", "32"), ("image_size", 0)])
def test_a_seed_and_a_size_are_whole_numbers(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be a whole number of at least [01], got {value!r}$"):
        quiet(net(), images(8), **{name: value})


@pytest.mark.parametrize("recipe", [{}, 0, 5, "default"])
def test_what_is_no_recipe_is_not_taken_for_the_default(recipe):
    with pytest.raises(ValueError, match=r"^recipe must be a Recipe"):
        quiet(net(), images(8), recipe)


@pytest.mark.parametrize("call", [quiet, train])
def test_a_recipe_that_is_none(call):
    with pytest.raises(ValueError, match=r"^recipe must be a Recipe, such as Recipe\(epochs=2, lr=0\.05\), got {'epo"):
        call(net(), images(8), {"epochs": 1})


def test_a_built_network_sees_the_size_that_it_was_built_for(tiny):
    """Its last map is 1×1 at 32 pixels; at 28 nothing would be left to pool."""
    torch.manual_seed(0)
    model = build(vgg_like((1,) * 5, (4,) * 5, image_size=32))
    seen = []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[-1]))
    quiet(model, tiny.train.take(64), replace(PLAIN, epochs=1, batch_size=32), validation=tiny.validation)
    evaluate(model, tiny.test)
    assert set(seen) == {32} and len(seen) == 4
    evaluate(model, tiny.test, image_size=36)
    assert seen[-1] == 36, "unless another is asked for"


@pytest.mark.parametrize("call", [quiet, lambda model, data: train(model, data, PLAIN), evaluate])
def test_images_with_other_channels_than_the_network_was_built_for(call):
    model = build(vgg_like((1,), (4,), in_channels=3))
    with pytest.raises(ValueError, match=r"built for images of 3 channels, and these have 1: .* with in_channels=1"):
        call(model, images(8))


def test_one_channel_is_one_channel():
    class Coloured(Images):
        def batch(self, *args, **options):
            pixels, labels = super().batch(*args, **options)
            return pixels.expand(-1, 3, -1, -1), labels

    grey = images(8)
    with pytest.raises(ValueError, match=r"built for images of 1 channel, and these have 3: .* with in_channels=3"):
        evaluate(build(LENET), Coloured(grey.pixels, grey.labels))


def test_one_row_is_one_row():
    model = Own(lambda scores: scores[:1])
    with pytest.raises(ValueError, match="a row of scores for each image, got 1 row for 8 images: "):
        evaluate(model, images(8))


@pytest.mark.parametrize("call", [quiet, lambda model, data: train(model, data, PLAIN), evaluate])
def test_more_classes_than_the_network_was_built_for(call):
    model, data = build(LENET.change(num_classes=3)), images(64)
    with pytest.raises(
        ValueError, match=r"must give \(N, 10\) scores, .* got shape \(\d+, 3\): let its last layer have 10"
    ):
        exhaust(call(model, data))
    model.classifier[-1] = nn.Linear(84, 10)  # what a student may do about it
    exhaust(call(model, data))


@pytest.mark.parametrize("call", [quiet, lambda model, data: train(model, data, PLAIN), evaluate])
@pytest.mark.parametrize(
    ("own", "shape"),
    [
        (nn.Linear(784, 9), r"\(\d+, 9\): let its last layer have 10 outputs"),
        (nn.Unflatten(1, (28, 28)), r"\(\d+, 28, 28\): an nn\.Flatten\(\) is missing"),
    ],
)
def test_scores_that_do_not_fit_of_a_network_of_ones_own(call, own, shape):
    model = nn.Sequential(nn.Flatten(), own, nn.Dropout(0.0))
    model.scale = nn.Parameter(torch.ones(()))
    with pytest.raises(ValueError, match=rf"must give \(N, 10\) scores, .* got shape {shape}"):
        exhaust(call(model, images(64)))


@pytest.mark.parametrize("call", [quiet, lambda model, data: train(model, data, PLAIN), evaluate])
def test_a_row_of_scores_for_each_image(call):
    model = Own(lambda scores: torch.cat([scores, scores]))
    with pytest.raises(
        ValueError, match=r"a row of scores for each image, got (16 rows for 8|128 rows for 64) images: "
    ):
        exhaust(call(model, images(64)))


@pytest.mark.parametrize("call", [quiet, evaluate])
def test_labels_that_begin_at_1_are_asked_about(call):
    data = Watched(images(64))
    data.labels = data.labels + 1
    with pytest.raises(ValueError, match=r"have 11 outputs.* Or do the labels begin at 1\? .* take labels - 1$"):
        call(net(), data)


class Own(nn.Module):
    """A student's own network; `last`: what its forward does with the scores."""

    def __init__(self, last):
        super().__init__()
        self.net, self.last = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), last

    def forward(self, x):
        return self.last(self.net(x))


@pytest.mark.parametrize("call", [quiet, lambda model, data: train(model, data, PLAIN), evaluate])
@pytest.mark.parametrize(
    ("last", "says"),
    [
        (
            lambda scores: (scores, None),
            r"must give one tensor of \(N, 10\) scores, got \(tensor.*return the scores alone",
        ),
        (lambda scores: None, r"must give one tensor of \(N, 10\) scores, got None"),
        (lambda scores: scores.argmax(dim=1), r"got torch.int64 of shape \(\d+,\): .* without argmax$"),
    ],
    ids=["a tuple", "nothing", "argmax"],
)
def test_what_a_network_gives_must_be_scores(call, last, says):
    with pytest.raises(ValueError, match=says):
        exhaust(call(Own(last), images(64)))


@pytest.mark.parametrize("last", [torch.no_grad()(lambda scores: scores + 0), torch.Tensor.detach])
def test_scores_without_a_gradient_cannot_be_trained(last):
    last = torch.no_grad()(last)
    with pytest.raises(ValueError, match=r"no gradient comes through them: leave torch\.no_grad\(\), \.detach\(\)"):
        quiet(Own(lambda scores: last(scores).detach()), images(64))
    assert evaluate(Own(torch.Tensor.detach), images(64)).accuracy >= 0


@pytest.mark.parametrize("call", [quiet, lambda model, data: train(model, data, PLAIN), evaluate])
@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (torch.arange(8) - 1, "torch.int64 from -1 on"),
        (torch.arange(8).float(), "torch.float32 from 0.0 on"),
        (torch.arange(8, dtype=torch.uint8), "torch.uint8 from 0 on"),
    ],
)
def test_labels_are_the_classes_numbers(call, labels, found):
    data = Watched(images(8))
    data.labels = labels
    with pytest.raises(ValueError, match=rf"^data.labels must be the classes' numbers, int64 from 0 on, got {found}: "):
        call(net(), data)


def exhaust(steps):
    """`train` checks the scores when it has some."""
    if hasattr(steps, "__next__"):
        for _ in steps:
            pass


def test_evaluation_computes_in_the_dtype_that_is_asked_for():
    model, data, seen = build(LENET), images(64), []
    model.features[0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    full, half = evaluate(model, data), evaluate(model, data, dtype="bfloat16")
    assert seen == [torch.float32, torch.bfloat16]
    assert full.loss != half.loss and half.loss == pytest.approx(full.loss, rel=0.02)
    with pytest.raises(ValueError, match=r"dtype must be one of 'auto', 'float32'.* got 'half'"):
        evaluate(model, data, dtype="half")


def test_who_stops_at_an_epochs_end_has_that_epochs_validation():
    def stop(step):
        if step.ends_epoch:
            raise StopTraining("enough")

    history = quiet(net(), images(64), replace(PLAIN, epochs=3), validation=images(16), callbacks=[stop])
    assert len(history.epochs) == 1 and 0 <= history.epochs[0]["validation_accuracy"] <= 1


def test_no_images_to_evaluate_on():
    with pytest.raises(ValueError, match=r"^data must hold at least one image, got none$"):
        evaluate(net(), images(0))


# --- real images ------------------------------------------------------------------------------------------------------


def test_lenet_learns_the_sample(sample):
    torch.manual_seed(0)
    model = build(LENET)
    assert evaluate(model, sample.validation).accuracy < 0.3
    history = quiet(model, sample.train, Recipe(epochs=2, lr=0.03, dtype="float32"), validation=sample.validation)
    assert history.epochs[-1]["validation_accuracy"] > 0.7
    assert evaluate(model, sample.test).accuracy > 0.7
    assert sum(history.losses[-10:]) < sum(history.losses[:10]) / 2
