"""utils.vitals and its picture, against networks worked out by hand and against torch.autograd."""

import io
import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from matplotlib.text import Text
from torch import nn

from utils.architectures import LENET, LENET_BOOK
from utils.catalog import _eighth
from utils.models import build
from utils.plots.vitals import vital_signs as picture
from utils.vitals import VitalSigns, vital_signs

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("one_thread")]

NEVER = -1e6  # a bias that closes a ReLU for good


def batch(n=16, channels=1, side=8, classes=10, seed=0):
    r = torch.Generator().manual_seed(seed)
    return torch.randn(n, channels, side, side, generator=r), torch.randint(classes, (n,), generator=r)


def seeded(make, seed=0):
    torch.manual_seed(seed)
    return make()


def small(norm=True, dropout=0.5):
    """Convolutions, batch norm, ReLU in place, pooling, dropout: all that could be changed by running it."""
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6) if norm else nn.Identity(),
            nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(6, 4, 3, padding=1), nn.ReLU(inplace=True),
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(64, 10),
        )
    )  # fmt: skip


def chain(factors):
    """Layers that multiply by a known factor each, and nothing between: (N, 1, 2, 2) → (N, 4)."""
    layers = [nn.Linear(4, 4, bias=False) for _ in factors]
    for layer, factor in zip(layers, factors, strict=True):
        layer.weight.data = factor * torch.eye(4)
    return nn.Sequential(nn.Flatten(), *layers)


def over_images(x):
    """Standard deviation over the images (N, …), of those the root mean square: by numpy, in double precision."""
    return float(np.sqrt(np.square(np.std(x.detach().double().numpy(), axis=0)).mean()))


# --- activation -------------------------------------------------------------------------------------------------------


def test_along_a_linear_chain_activations_shrink_by_each_layers_factor():
    factors = [0.5, 0.1, 3.0, 0.25]
    images, labels = batch(side=2, classes=4)
    signs = vital_signs(chain(factors), images, labels)
    expected = over_images(images) * np.cumprod(factors)
    np.testing.assert_allclose(signs.layers.activation, expected, rtol=1e-5)
    assert signs.layers.layer.to_list() == ["1", "2", "3", "4"]
    assert set(signs.layers.kind) == {"dense"} and signs.layers.dead.isna().all()


def test_what_is_the_same_for_all_images_is_no_activation():
    """A large bias is an output as well, but tells no image from another."""
    images, labels = batch(side=2, classes=4)
    net, lifted = chain([0.5, 0.5]), chain([0.5, 0.5])
    lifted[1].bias = nn.Parameter(torch.full((4,), 100.0))
    plain, with_bias = (vital_signs(n, images, labels).layers.activation for n in (net, lifted))
    np.testing.assert_allclose(with_bias, plain, rtol=1e-4)
    images, labels = batch()
    same = images[:1].expand(16, -1, -1, -1)
    assert (vital_signs(small(dropout=0.0), same, labels).layers.activation == 0).all()


def test_activations_are_read_after_the_norm_and_the_relu():
    net, (images, labels) = small(dropout=0.0), batch()
    signs = vital_signs(net.eval(), images, labels)  # and in training mode: the batch's mean and variance
    after_norm = F.batch_norm(net[0](images), None, None, training=True).relu()
    second = net[4](F.max_pool2d(after_norm, 2)).relu()
    scores = net[8](second.flatten(1))
    expected = [over_images(x) for x in (after_norm, second, scores)]
    np.testing.assert_allclose(signs.layers.activation, expected, rtol=1e-4)
    assert signs.layers.kind.to_list() == ["conv", "conv", "dense"]
    assert signs.loss == pytest.approx(F.cross_entropy(scores, labels).item(), rel=1e-5)
    assert (signs.num_classes, signs.num_images, signs.chance) == (10, 16, pytest.approx(2.302585, abs=1e-6))


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.Sigmoid(), nn.GELU(), nn.LeakyReLU(), nn.LocalResponseNorm(3)])
def test_other_activations_and_lrn_count_and_have_no_dead(activation):
    conv = seeded(lambda: nn.Conv2d(1, 3, 3))
    images, labels = batch(classes=3)
    signs = vital_signs(nn.Sequential(conv, activation, nn.AdaptiveAvgPool2d(1), nn.Flatten()), images, labels)
    assert signs.layers.activation[0] == pytest.approx(over_images(activation(conv(images))), rel=1e-5)
    assert signs.layers.dead.isna().all()


def test_numbers_whose_squares_float32_cannot_hold_are_measured():
    images, labels = batch(side=2, classes=4)
    factors = [1e-15, 1e-15, 1e30]
    signs = vital_signs(chain(factors), images, labels)
    np.testing.assert_allclose(signs.layers.activation, over_images(images) * np.cumprod(factors), rtol=1e-5)


# --- gradient ---------------------------------------------------------------------------------------------------------


def test_the_gradient_of_the_scores_is_the_softmax_less_the_label():
    """And each layer of a chain, from the end, multiplies it by its factor."""
    factors = [0.5, 0.1, 3.0, 0.25]
    images, labels = batch(side=2, classes=4)
    signs = vital_signs(chain(factors), images, labels)
    scores = math.prod(factors) * images.flatten(1)
    at_the_end = (scores.softmax(1) - F.one_hot(labels, 4)).square().sum(1).mean().sqrt()
    expected = at_the_end.item() * np.cumprod([1.0, *factors[:0:-1]])[::-1]
    np.testing.assert_allclose(signs.layers.gradient, expected, rtol=1e-5)


def test_the_gradient_is_autograds_with_respect_to_what_the_layer_computes():
    net, (images, labels) = small(dropout=0.0), batch()
    a = net[0](images)
    b = net[4](F.max_pool2d(F.batch_norm(a, None, None, training=True).relu(), 2))
    c = net[8](b.relu().flatten(1))
    gradients = torch.autograd.grad(F.cross_entropy(c, labels), (a, b, c))  # of the mean, so 1/16 of an image's
    expected = [(16 * g).flatten(1).norm(dim=1).square().mean().sqrt().item() for g in gradients]
    np.testing.assert_allclose(vital_signs(net, images, labels).layers.gradient, expected, rtol=1e-4)


def test_working_in_place_changes_nothing():
    images, labels = batch()
    net, apart = small(dropout=0.0), small(dropout=0.0)
    for module in apart.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    one, other = (vital_signs(n, images, labels).layers for n in (net, apart))
    assert one.equals(other)


def test_numbers_do_not_depend_on_the_batch_size():
    net, (images, labels) = small(norm=False, dropout=0.0), batch()
    once = vital_signs(net, images, labels)
    thrice = vital_signs(net, images.repeat(3, 1, 1, 1), labels.repeat(3))
    for column in ("activation", "gradient", "dead"):
        np.testing.assert_allclose(thrice.layers[column], once.layers[column], rtol=1e-5)
    assert thrice.loss == pytest.approx(once.loss) and thrice.num_images == 48


def test_without_biases_weights_have_equal_gradients_where_outputs_show_the_slope():
    """Why the table has those of outputs: N(0, 0.01²) in five layers of one size."""
    torch.manual_seed(0)
    layers = [nn.Linear(64, 64, bias=False) for _ in range(5)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.01)
    net = nn.Sequential(nn.Flatten(), *itertools.chain(*((layer, nn.ReLU()) for layer in layers[:-1])), layers[-1])
    images, labels = batch(n=64, classes=64)
    signs = vital_signs(net, images, labels).layers
    F.cross_entropy(net(images), labels).backward()
    of_weights = [float(layer.weight.grad.norm()) for layer in layers]
    assert max(of_weights) < 5 * min(of_weights)
    assert (signs.gradient.to_numpy()[1:] > 10 * signs.gradient.to_numpy()[:-1]).all()
    assert (signs.activation.to_numpy()[1:] < 0.1 * signs.activation.to_numpy()[:-1]).all()


class Detached(nn.Module):
    def __init__(self):
        super().__init__()
        self.front, self.end = nn.Conv2d(1, 2, 3), nn.Linear(72, 10)

    def forward(self, x):
        return self.end(self.front(x).detach().flatten(1))


def test_no_gradient_is_zero_and_frozen_layers_have_one():
    images, labels = batch()
    assert vital_signs(Detached(), images, labels).layers.gradient[0] == 0
    net = small()
    free = vital_signs(small(dropout=0.0), images, labels).layers
    frozen = vital_signs(small(dropout=0.0).requires_grad_(False), images, labels).layers
    assert frozen.equals(free)
    net[:4].requires_grad_(False)
    vital_signs(net, images, labels)
    assert [p.requires_grad for p in net.parameters()] == [False] * 4 + [True] * 4


# --- dead -------------------------------------------------------------------------------------------------------------


def test_dead_channels_and_units_are_counted():
    images, labels = batch()
    net = small(norm=False)
    with torch.no_grad():
        net[0].bias[:2] = NEVER  # of 6
        net[0].bias[2:] = 10
        net[3] = nn.AvgPool2d(2)
        net[4].bias[:3] = NEVER  # of 4
        net[4].bias[3:] = 50
    dead = vital_signs(net, images, labels).layers.dead
    assert dead.to_list()[:2] == [pytest.approx(2 / 6), 3 / 4] and math.isnan(dead[2])


def test_a_channel_is_alive_with_one_positive_number_in_one_image():
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(32, 3))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([1.0, 1.0]).view(2, 1, 1, 1))
        net[0].bias.copy_(torch.tensor([-0.5, -1.5]))
    images, labels = torch.zeros(5, 1, 4, 4), torch.zeros(5, dtype=torch.int64)
    images[3, 0, 1, 2] = 1.0
    assert vital_signs(net, images, labels).layers.dead[0] == 0.5
    images[3, 0, 1, 2] = 0.0
    assert vital_signs(net, images, labels).layers.dead[0] == 1.0


def test_a_dead_layer_lets_no_image_and_no_gradient_through():
    net, (images, labels) = small(norm=False, dropout=0.0), batch()
    with torch.no_grad():
        net[4].bias.fill_(NEVER)
    layers = vital_signs(net, images, labels).layers
    assert layers.activation[0] > 0 and layers.activation.to_list()[1:] == [0, 0]
    assert layers.gradient.to_list()[:2] == [0, 0] and layers.gradient[2] > 0.5


class Functional(nn.Module):
    """As PyTorch's own tutorial writes it: no modules but the layers with weights; pooling before the second ReLU."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1), nn.Linear(16, 5)

    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.conv1(x)), 2)
        return self.fc(F.dropout(F.relu_(F.max_pool2d(self.conv2(x), 2)), 0.0).flatten(1))


def test_relus_that_are_functions_count_as_modules_do():
    net, (images, labels) = seeded(Functional), batch(classes=5)
    modules = nn.Sequential(
        net.conv1, nn.ReLU(), nn.MaxPool2d(2), net.conv2, nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), net.fc
    )
    one, other = (vital_signs(n, images, labels).layers for n in (net, modules))
    assert one.layer.to_list() == ["conv1", "conv2", "fc"]
    assert one.dead.notna().to_list() == [True, True, False]
    assert one.drop(columns="layer").equals(other.drop(columns="layer"))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.unused, self.fc = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(3, 3), nn.Linear(64, 10)

    def forward(self, x):
        return self.fc(self.conv(self.conv(x).relu()).flatten(1))


def test_a_layer_that_runs_twice_has_two_rows_and_an_unused_one_none():
    layers = vital_signs(seeded(Twice), *batch()).layers
    assert layers.layer.to_list() == ["conv", "conv", "fc"]
    assert layers.dead.notna().to_list() == [True, False, False]
    assert layers.activation[0] != layers.activation[1] and layers.gradient[0] != layers.gradient[1]


# --- the two diseases -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deep():
    """VGG-E at an eighth of its width, initialised in four ways; small images, a few of them."""
    images, labels = batch(n=24, side=32, seed=1)
    deep = _eighth("E")
    ways = {
        "default": deep.change(init="default"),
        "N(0, 0.01²)": deep.change(init="normal", init_std=0.01),
        "He": deep,
        "BN": deep.change(init="default", norm="batch"),
    }
    return {name: vital_signs(seeded(lambda way=way: build(way)), images, labels) for name, way in ways.items()}


def test_vanishing_shows_in_a_deep_vgg_and_he_and_batch_norm_cure_it(deep):
    for name in ("default", "N(0, 0.01²)"):
        layers = deep[name].layers
        assert layers.activation.iloc[-1] < 1e-6 * layers.activation.iloc[0], name
        assert layers.gradient.iloc[0] < 1e-6 * layers.gradient.iloc[-1], name
        assert (np.diff(np.log(layers.gradient)) > 0).all(), name
    for name in ("He", "BN"):
        layers = deep[name].layers
        for column in ("activation", "gradient"):
            assert layers[column].max() < 50 * layers[column].min(), (name, column)
    assert deep["default"].loss == pytest.approx(math.log(10), abs=0.05)
    layers = deep["BN"].layers
    assert len(layers) == 19 and layers.kind.to_list() == ["conv"] * 16 + ["dense"] * 3
    assert layers.layer.iloc[[0, 1, -1]].to_list() == ["features.0", "features.3", "classifier.4"]


# --- the model stays as it is -----------------------------------------------------------------------------------------


def state_of(model):
    return {
        "state": {name: (t.clone(), t.dtype, t._version, t.data_ptr()) for name, t in model.state_dict().items()},
        "grads": [(p.grad, p.requires_grad, None if p.grad is None else p.grad.clone()) for p in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "hooks": [
            {n: list(v.items()) for n, v in vars(m).items() if "hooks" in n and hasattr(v, "items")}
            for m in model.modules()
        ],
        "random": torch.get_rng_state(),
        "modes of torch": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    }


def assert_unchanged(before, model):
    after = state_of(model)
    for name, (tensor, *others) in before["state"].items():
        assert tensor.equal(after["state"][name][0]) and others == list(after["state"][name][1:]), name
    for (grad, needs, copy), (now, needs_now, _) in zip(before["grads"], after["grads"], strict=True):
        assert now is grad and needs_now is needs and (grad is None or grad.equal(copy))
    assert after["random"].equal(before["random"])
    for what in ("modes", "hooks", "modes of torch"):
        assert after[what] == before[what], what


def used():
    """In a mode of its own a module, some gradients, a hook: as a student may have left it."""
    model = small()
    model.eval()
    model[7].train()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    model[5].register_forward_hook(lambda *_: None)
    return model


@pytest.mark.parametrize("around", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_model_stays_as_it_is(around):
    model, (images, labels) = used(), batch()
    copies = images.clone(), labels.clone()
    with around():
        before = state_of(model)
        signs = vital_signs(model, images, labels)
        assert_unchanged(before, model)
    assert images.equal(copies[0]) and labels.equal(copies[1]) and images.grad is None
    assert (signs.layers.gradient > 0).all()


def test_the_model_stays_as_it_is_after_an_error():
    images, labels = batch()
    misfit = used()
    misfit[8] = nn.Linear(65, 10)
    huge = used()
    huge[8].weight.data.fill_(3e38)
    for model, given in ((misfit, labels), (huge, labels), (used(), labels + 7)):
        before = state_of(model)
        with pytest.raises(ValueError):
            vital_signs(model, images, given)
        assert_unchanged(before, model)


def test_dropout_drops_and_the_same_random_numbers_give_the_same_signs():
    model, (images, labels) = used(), batch()
    torch.manual_seed(3)
    one, same = vital_signs(model, images, labels), vital_signs(model, images, labels)
    torch.manual_seed(4)
    other = vital_signs(model, images, labels)
    assert one.layers.equals(same.layers) and one.loss == same.loss != other.loss


def test_in_place_work_on_images_and_weights_of_the_model_leaves_both_alone():
    class Rude(nn.Sequential):
        def forward(self, x):
            x -= 1
            self[1].weight.data.mul_(2)
            return super().forward(x)

    model, (images, labels) = Rude(nn.Flatten(), nn.Linear(64, 10)), batch()
    before, copy = state_of(model), images.clone()
    vital_signs(model, images, labels)
    assert_unchanged(before, model)
    assert images.equal(copy)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_all_is_done_in_float32(dtype):
    model, (images, labels) = small(dropout=0.0).to(dtype), batch()
    expected = vital_signs(small(dropout=0.0).to(dtype).float(), images, labels)
    before = state_of(model)
    with torch.autocast("cpu", torch.bfloat16):
        signs = vital_signs(model, images.double(), labels)
    assert_unchanged(before, model)
    assert signs.layers.equals(expected.layers) and signs.loss == expected.loss


def test_a_compiled_model_runs_as_it_was_written():
    model, (images, labels) = small(dropout=0.0), batch()

    def compiled(*_):
        raise AssertionError("the compiled network ran")

    model._compiled_call_impl = compiled  # what model.compile() sets
    signs = vital_signs(model, images, labels)
    assert model._compiled_call_impl is compiled and "_compiled_call_impl" not in vars(model[0])
    assert signs.layers.equals(vital_signs(small(dropout=0.0), images, labels).layers)


def test_channels_last_gives_the_same():
    images, labels = batch(channels=3)
    net = seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 10)))
    expected = vital_signs(net, images, labels)
    net.to(memory_format=torch.channels_last)
    signs = vital_signs(net, images.to(memory_format=torch.channels_last), labels)
    assert signs.layers.equals(expected.layers)
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)


# --- words ------------------------------------------------------------------------------------------------------------


def test_the_table_reads():
    signs = vital_signs(build(LENET_BOOK), *batch(side=28))
    text = repr(signs)
    assert re.match(r"loss \d\.\d{3} on 16 images \(chance: ln 10 = 2\.303\)\n", text)
    assert "features.0" in text and "–" in text and "nan" not in text.lower()
    assert "<table" in signs._repr_html_() and "ln 10 = 2.303" in signs._repr_html_()
    with pytest.raises(AttributeError):
        signs.loss = 0.0
    net = small(norm=False)
    net[0].bias.data[:3] = NEVER
    net[0].bias.data[3:] = 10
    assert vital_signs(net, *batch()).in_words().dead.to_list()[0] == "50%"


IMAGES, LABELS = batch()


@pytest.mark.parametrize(
    ("model", "images", "labels", "words"),
    [
        (LENET, IMAGES, LABELS, r"model must be a Module, such as build\(LENET\)"),
        (small(), IMAGES.numpy(), LABELS, r"images must be a Tensor, such as the first that data.train.batch"),
        (small(), IMAGES, LABELS.tolist(), r"labels must be a Tensor, such as the second"),
        (small(), IMAGES[0], LABELS[:1], r"got torch.float32 of shape \(1, 8, 8\): take images\[None\]"),
        (small(), IMAGES.byte(), LABELS, r"got torch.uint8 of shape .*: take images.float\(\) / 255"),
        (small(), IMAGES, LABELS.int(), r"labels must be int64 of shape \(16,\), .* got torch.int32 .*labels.long\(\)"),
        (small(), IMAGES, LABELS[:15], r"a class for each image, got torch.int64 of shape \(15,\): give the labels of"),
        (small(), IMAGES[:1], LABELS[:1], r"images must be at least 2, .* got 1"),
        (small(), IMAGES.clone().index_fill_(0, torch.tensor([3]), math.nan), LABELS, r"and image 3 holds nan: repair"),
        (small(), IMAGES, LABELS - 1, r"labels must be classes from 0 to 9, .* got -1 to 8: number the classes 0, 1"),
        (small(), IMAGES, LABELS.clamp(1) + 1, r"got 2 to 10: give the last layer at least 11 outputs"),
        (small(), IMAGES, (LABELS + 1).clamp(1, 10), r"Classes are numbered from 0: take labels - 1"),
        (small()[:6], IMAGES, LABELS, r"a row of scores for each image, \(16, classes\), got \(16, 4, 4, 4\)"),
        (nn.Sequential(nn.Flatten()), IMAGES, LABELS, r"at least one convolution .* or dense layer .*, got none"),
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(10)), IMAGES, LABELS, r"the model has Lazy layers .*1\.weight"),
        (small().to("meta"), IMAGES, LABELS, r"shapes but no numbers \(0.weight is on 'meta'\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(63, 10)), IMAGES, LABELS, r"found: 1, Linear\(.* given \(16, 64\)"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_what_cannot_be_examined_is_said(model, images, labels, words):
    with pytest.raises(ValueError, match=words):
        vital_signs(model, images, labels)


def test_numbers_that_are_none_are_said_with_the_layer():
    images, labels = batch(side=2, classes=4)
    with pytest.raises(ValueError, match=r"the activation of 3 is the first that is no finite number\. Images and"):
        vital_signs(chain([1e20, 1.0, 1e30, 1.0]), images, labels)
    spoilt = chain([1.0, math.nan])
    with pytest.raises(ValueError, match=r"weights must be finite numbers, and 2\.weight holds nan: a training"):
        vital_signs(spoilt, images, labels)
    with pytest.raises(ValueError, match=r"the gradient of 1 is the first that is no finite number"):
        vital_signs(chain([1e-38, 1e25, 1e25]), 1e-30 * images, labels)


class NoGradient(nn.Linear):
    def forward(self, x):
        return super().forward(x.flatten(1)).detach()


def test_scores_without_gradient_are_said():
    with pytest.raises(ValueError, match=r"no gradient comes through them: leave torch.no_grad"):
        vital_signs(NoGradient(64, 10), *batch())


# --- the picture ------------------------------------------------------------------------------------------------------


def line(axes, gid):
    (found,) = [line for line in axes.lines if line.get_gid() == gid]
    return found


def written(figure):
    """(text, its box in pixels), for all that is really drawn: matplotlib keeps ticks beyond an axis' end as well."""
    found, draw = {}, Text.draw

    def record(self, renderer):
        if self.get_visible() and self.get_text():
            found[id(self)] = (self, self.get_window_extent(renderer))
        return draw(self, renderer)

    figure.savefig(io.BytesIO(), format="raw", dpi="figure")  # first, so that it is laid out
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", record)
        figure.savefig(io.BytesIO(), format="raw", dpi="figure")
    return list(found.values())


def made(activation, gradient, dead, loss=2.3):
    kinds = ["conv"] * (len(activation) - 1) + ["dense"]
    names = [f"layers.{i}" for i in range(len(kinds))]
    columns = {"layer": names, "kind": kinds, "activation": activation, "gradient": gradient, "dead": dead}
    return VitalSigns(loss, 10, 64, pd.DataFrame(columns))


HEALTHY = made([0.5, 0.4, 0.3, 0.2], [0.1, 0.2, 0.3, 0.9], [0.0, 0.25, 0.0, math.nan])
DYING = made([0.5, 0.0, 0.0, 0.0], [0.0, 0.0, 1e-5, 0.9], [0.0, 1.0, 0.5, math.nan])


def test_panels_show_the_tables_numbers():
    figure = picture({"healthy": HEALTHY, "deep": (short := made([1, 2], [3, 4], [0.5, math.nan]))}, title="A title")
    for axes, column, scale in zip(figure.axes, ("activation", "gradient", "dead"), (1, 1, 100), strict=True):
        for name, signs in (("healthy", HEALTHY), ("deep", short)):
            drawn = line(axes, f"{column}: {name}")
            assert drawn.get_xdata().tolist() == list(range(1, 1 + len(signs.layers)))
            np.testing.assert_array_equal(drawn.get_ydata(), scale * signs.layers[column])
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "log", "linear"]
    low, high = figure.axes[2].get_ylim()
    assert low <= 0 and high >= 100 and figure.title == "A title"
    looks = [line(figure.axes[0], f"activation: {name}") for name in ("healthy", "deep")]
    assert looks[0].get_color() != looks[1].get_color() and looks[0].get_marker() != looks[1].get_marker()


def test_zero_stands_hollow_at_the_lower_edge_and_is_said():
    figure = picture({"healthy": HEALTHY, "dying": DYING})
    for axes, panel, where in zip(figure.axes[:2], ("activation", "gradient"), ([2, 3, 4], [1, 2]), strict=True):
        low, zeros = axes.get_ylim()[0], line(axes, f"{panel} zero: dying")
        assert zeros.get_xdata().tolist() == where and (zeros.get_ydata() == low).all()
        assert zeros.get_markerfacecolor() == "white" and not zeros.get_clip_on()
        assert low < min(DYING.layers[panel][DYING.layers[panel] > 0].min(), HEALTHY.layers[panel].min())
        ticks = dict(zip(axes.get_yticks(), (t.get_text() for t in axes.get_yticklabels()), strict=True))
        assert ticks[low] == "0" and not any(drawn.get_gid() == f"{panel} zero: healthy" for drawn in axes.lines)
    assert "hollow, at the lower edge: exactly 0" in figure.get_supxlabel()
    assert "hollow" not in picture({"healthy": HEALTHY}).get_supxlabel()
    picture({"nothing": made([0.0, 0.0], [0.0, 0.0], [1.0, math.nan])}).savefig(io.BytesIO())


def test_ticks_are_plain_numbers_or_powers_and_a_level_line_looks_level():
    def ticks(values):
        axes = picture({"a": made(values, [1.0] * len(values), [math.nan] * len(values))}).axes[0]
        return [t.get_text() for t in axes.get_yticklabels()], axes.get_ylim()

    assert ticks([0.02, 2.0])[0] == ["0.1", "1"]
    assert ticks([1e-9, 1.0])[0] == ["10⁻⁸", "10⁻⁶", "10⁻⁴", "10⁻²", "1"]
    low, high = ticks([0.5, 0.6])[1]
    assert high / low > 100 and math.sqrt(low * high) == pytest.approx(math.sqrt(0.3))


def test_without_a_relu_there_are_two_panels():
    smooth = made([0.5, 0.4], [0.1, 0.2], [math.nan, math.nan])
    assert len(picture({"smooth": smooth}).axes) == 2
    axes = picture({"smooth": smooth, "healthy": HEALTHY}).axes
    assert len(axes) == 3 and [drawn.get_gid() for drawn in axes[2].lines] == ["dead: healthy"]


def test_the_alternative_text_says_the_first_and_the_last_values():
    assert picture({"healthy": HEALTHY, "dying": DYING}).alt == (
        "Vital signs, layer by layer. "
        "healthy, 4 layers, loss 2.300: activation from 0.5 in the first layer to 0.2 in the last, gradient from 0.1 "
        "in the first layer to 0.9 in the last, dead channels from 0% to 0%, most in layers.1: 25%. "
        "dying, 4 layers, loss 2.300: activation from 0.5 in the first layer to 0 in the last, exactly 0 in 3 of them, "
        "gradient from 0 in the first layer to 0.9 in the last, exactly 0 in 2 of them, dead channels from 0% to 50%, "
        "most in layers.1: 100%."
    )
    assert picture({"a": made([0.5, 0.4], [0.1, 0.2], [math.nan] * 2)}).alt.endswith("0.2 in the last, no ReLU.")


def test_what_stands_below_says_which_layers_are_dense_if_all_networks_agree():
    assert (
        picture({"a": HEALTHY, "b": DYING})
        .get_supxlabel()
        .startswith("layers, in the order in which they run: conv 1–3, dense 4")
    )
    other = made([1, 2], [3, 4], [0.5, math.nan])
    assert picture({"a": HEALTHY, "b": other}).get_supxlabel() == "layers, in the order in which they run"


@pytest.mark.parametrize("number", [1, 2, 7])
@pytest.mark.parametrize("zero", [False, True])
def test_all_that_is_written_can_be_read(deep, number, zero):
    names = ["torch's default, rate ÷ 10", "He", "VGG (2,2,2) + BN", "N(0, 0.01²)", "LeNet", "grown from A to E", "a"]
    kinds = [*deep.values(), DYING if zero else HEALTHY]
    figure = picture({name: kinds[-1 - i % len(kinds)] for i, name in enumerate(names[:number])})
    boxes = written(figure)
    words = {" ".join(text.get_text().split()) for text, _ in boxes}
    assert number == 1 or set(names[:number]) <= words
    for text, box in boxes:
        assert text.get_fontsize() >= 12
        assert min(box.x0, box.y0, figure.bbox.x1 - box.x1, figure.bbox.y1 - box.y1) >= -0.5, text
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        assert not (min(a.x1, b.x1) > max(a.x0, b.x0) and min(a.y1, b.y1) > max(a.y0, b.y0)), (one, other)


@pytest.mark.parametrize(
    ("signs", "words"),
    [
        (HEALTHY, r"signs must be a dict of names and vital signs, .*, got a VitalSigns"),
        ({}, r"signs must hold 1 to 7 networks to draw, got 0"),
        ({str(i): HEALTHY for i in range(8)}, r"signs must hold 1 to 7 networks to draw, got 8"),
        ({"He": HEALTHY.layers}, r"He: to draw are what utils.vitals.vital_signs gives, got"),
    ],
)
def test_what_cannot_be_drawn_is_refused(signs, words):
    with pytest.raises(ValueError, match=words):
        picture(signs)
