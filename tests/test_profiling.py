"""utils/profiling.py: held against arithmetic by hand, the papers, CS231n's table, torchvision's published figures,
gradients, and what torch really keeps on the CPU."""

import copy
import dataclasses
import pickle
import random
import re
import warnings

import pandas as pd
import pytest
import torch
import torchvision.models as theirs
from torch import nn
from torch.nn import functional as F
from torchvision.models.regnet import BlockParams

from utils.architectures import (
    ALEXNET,
    ALEXNET_SMALL,
    LENET,
    LENET_BOOK,
    VGG,
    VGG_SMALL,
    Architecture,
    Block,
    Conv,
    Head,
    Pool,
    vgg_like,
)
from utils.models import build
from utils.profiling import COSTS, Profile, profile


def on_meta(architecture):
    return build(architecture, device="meta")


def rows(net, *columns, input_shape=None, kind=None):
    layers = profile(net, input_shape).layers
    layers = layers if kind is None else layers[layers.kind == kind]
    return layers[list(columns)].values.tolist() if len(columns) > 1 else layers[columns[0]].tolist()


class Residual(nn.Module):
    """A student's own: functions between the layers, and a sum that is no layer."""

    def __init__(self, channels=8):
        super().__init__()
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.third = nn.Conv2d(channels, channels, 3, padding=1)
        self.scores = nn.Linear(channels, 10)

    def forward(self, x):
        x = self.first(x)
        x = x + self.third(self.second(x))
        return self.scores(F.relu(x).mean((2, 3)))


# --- arithmetic by hand -----------------------------------------------------------------------------------------------


def test_lenets_table_is_what_one_works_out_on_paper():
    assert rows(build(LENET), "name", "block", "kind", "layer", "output_shape", "parameters", "macs") == [
        ["features.0", 1, "conv", "5×5, 1 → 6", (6, 28, 28), 6 * 25 + 6, 6 * 28 * 28 * 25],
        ["features.1", 1, "activation", "ReLU", (6, 28, 28), 0, 0],
        ["features.2", 1, "pool", "max 2×2", (6, 14, 14), 0, 0],
        ["features.3", 2, "conv", "5×5, 6 → 16, padding 0", (16, 10, 10), 16 * 6 * 25 + 16, 16 * 10 * 10 * 6 * 25],
        ["features.4", 2, "activation", "ReLU", (16, 10, 10), 0, 0],
        ["features.5", 2, "pool", "max 2×2", (16, 5, 5), 0, 0],
        ["avgpool", "head", "other", "Identity", (16, 5, 5), 0, 0],
        ["flatten", "head", "flatten", "Flatten", (400,), 0, 0],
        ["classifier.0", "head", "dense", "400 → 120", (120,), 400 * 120 + 120, 400 * 120],
        ["classifier.1", "head", "activation", "ReLU", (120,), 0, 0],
        ["classifier.2", "head", "dense", "120 → 84", (84,), 120 * 84 + 84, 120 * 84],
        ["classifier.3", "head", "activation", "ReLU", (84,), 0, 0],
        ["classifier.4", "head", "dense", "84 → 10", (10,), 84 * 10 + 10, 84 * 10],
    ]


def test_lenets_memory_and_what_it_sees_are_what_one_works_out_on_paper():
    conv, pool, dense = [18_816, 6400], [4704, 1600], [480, 336, 40]
    assert rows(build(LENET), "activation_bytes", kind="conv") == conv
    assert rows(build(LENET), "activation_bytes", kind="pool") == pool
    assert rows(build(LENET), "activation_bytes", kind="dense") == dense
    assert profile(build(LENET)).total.activation_bytes == sum(conv + pool + dense), "the rest is in place, or a view"
    assert rows(build(LENET), "receptive_field") == [5, 5, 6, 14, 14, 16, 16, 16, 32, 32, 32, 32, 32]
    assert rows(build(LENET), "stride") == [1, 1, 2, 2, 2, 4, 4, 4] + [pd.NA] * 5


@pytest.mark.parametrize("seed", range(6))
def test_any_convolution_costs_what_the_formula_says(seed):
    draw = random.Random(seed)
    groups, kernel, stride, padding = (draw.randint(1, 3) for _ in range(4))
    c_in, c_out, bias = groups * draw.randint(1, 4), groups * draw.randint(1, 4), draw.random() < 0.5
    height, width = draw.randint(8, 20), draw.randint(8, 20)
    net = nn.Conv2d(c_in, c_out, kernel, stride=stride, padding=padding, groups=groups, bias=bias)
    h, w = ((side + 2 * padding - kernel) // stride + 1 for side in (height, width))
    weights = c_out * (c_in // groups) * kernel**2
    found = profile(net, (c_in, height, width)).layers.iloc[0]
    assert found.output_shape == (c_out, h, w)
    assert found.parameters == weights + c_out * bias
    assert found.macs == weights * h * w
    assert found.activation_bytes == 4 * c_out * h * w


@pytest.mark.parametrize(
    ("layer", "kind", "words"),
    [
        (nn.Conv2d(4, 8, 3, padding=1), "conv", "3×3, 4 → 8"),
        (nn.Conv2d(4, 8, 3, padding="same"), "conv", "3×3, 4 → 8"),
        (nn.Conv2d(4, 8, 3, padding="valid"), "conv", "3×3, 4 → 8, padding 0"),
        (nn.Conv2d(4, 8, 1), "conv", "1×1, 4 → 8"),
        (nn.Conv2d(4, 8, (1, 3), padding=(0, 1), groups=2), "conv", "1×3, 4 → 8, groups 2"),
        (nn.Conv2d(4, 8, 5, stride=(4, 2), padding=2), "conv", "5×5, 4 → 8, stride 4×2"),
        (nn.Conv2d(4, 8, 3, padding=2, dilation=2), "conv", "3×3, 4 → 8, dilation 2"),
        (nn.MaxPool2d(2), "pool", "max 2×2"),
        (nn.MaxPool2d(3, 2, padding=1), "pool", "max 3×3, stride 2, padding 1"),
        (nn.AvgPool2d(2), "pool", "average 2×2"),
        (nn.AdaptiveAvgPool2d(7), "pool", "average to 7×7"),
        (nn.AdaptiveAvgPool2d((1, 2)), "pool", "average to 1×2"),
        (nn.BatchNorm2d(4), "norm", "batch norm, 4"),
        (nn.LocalResponseNorm(5), "norm", "LRN over 5 channels"),
        (nn.GroupNorm(2, 4), "norm", "GroupNorm"),
        (nn.GELU(), "activation", "GELU"),
        (nn.Dropout(0.25), "dropout", "p = 0.25"),
        (nn.Linear(16, 2000), "dense", "16 → 2,000"),
        (nn.Flatten(), "flatten", "Flatten"),
        (nn.PixelShuffle(2), "other", "PixelShuffle"),
    ],
)
def test_a_layer_is_described_as_one_would_say_it(layer, kind, words):
    found = profile(nn.Sequential(layer), (4, 16, 16)).layers.iloc[0]
    assert (found.kind, found.layer) == (kind, words)


# --- the papers, CS231n, torchvision ----------------------------------------------------------------------------------

PAPER = {  # parameters, counted; Table 2 of VGG's paper gives them in millions
    "A": (132_863_336, 133),
    "A-LRN": (132_863_336, 133),
    "B": (133_047_848, 133),
    "C": (133_638_952, 134),
    "D": (138_357_544, 138),
    "E": (143_667_240, 144),
}


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_parameter_counts(name):
    blocks = profile(on_meta(VGG[name])).blocks
    counted, millions = PAPER[name]
    assert blocks.parameters.sum() == counted
    assert round(counted / 1e6) == millions
    assert list(blocks.index) == [1, 2, 3, 4, 5, "head"]
    assert blocks.loc["head", "parameters"] == 123_642_856


def test_cs231ns_table_of_vgg16():
    """https://cs231n.github.io/convolutional-networks/#case: memory in numbers, weights without biases."""
    layers = profile(on_meta(VGG["D"])).layers.set_index("name")
    assert layers.loc["features.0", "activation_bytes"] == 4 * 224 * 224 * 64
    assert round(224 * 224 * 64 / 1e6, 1) == 3.2
    conv, dense = layers[layers.kind == "conv"], layers[layers.kind == "dense"]
    memory = [3.2e6] * 2 + [1.6e6] * 2 + [800e3] * 3 + [400e3] * 3 + [100e3] * 3
    assert list(conv.activation_bytes / 4) == pytest.approx(memory, rel=0.01)
    weights = [1728, 36_864, 73_728, 147_456, 294_912, 589_824, 589_824, 1_179_648, *[2_359_296] * 5]
    assert list(conv.parameters - [shape[0] for shape in conv.output_shape]) == weights
    assert list(dense.parameters - [4096, 4096, 1000]) == [102_760_448, 16_777_216, 4_096_000]
    assert round(layers.parameters.sum() / 1e6) == 138
    # The table has no average pooling between features and head: at 224×224 it copies what it gets.
    numbers = 224 * 224 * 3 + layers.drop("avgpool").activation_bytes.sum() / 4
    assert round(numbers / 1e6, 1) == 15.2


@pytest.fixture
def quick_to_build(monkeypatch):
    """On meta there is nothing to initialise, and RegNet's widths are worked out with tensors, which need numbers."""
    for name in dir(nn.init):
        if re.fullmatch(r"[a-z]\w*_", name):
            monkeypatch.setattr(nn.init, name, lambda *args, **kwargs: None)
    widths = BlockParams.from_init_params

    def widths_on_cpu(**options):
        with torch.device("cpu"):
            return widths(**options)

    monkeypatch.setattr(BlockParams, "from_init_params", widths_on_cpu)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The default weight initialization")  # GoogLeNet's and Inception's
        yield


# On meta torch works out batch norm's shape in Python, milliseconds a layer, which are two thirds of all time here. It
# has no MACs: these networks show that, the others go without.
WITH_BATCH_NORM = {"vgg11_bn", "vgg16_bn", "resnet18", "resnet50", "mobilenet_v2", "regnet_y_400mf"}
# The published figures are of the network without the parts that only training uses.
AS_PUBLISHED = {"googlenet": {"aux_logits": False}}


@pytest.mark.torch
@pytest.mark.parametrize("name", theirs.list_models(module=theirs))
def test_torchvisions_published_parameters_and_macs(name, quick_to_build, monkeypatch):
    if name not in WITH_BATCH_NORM:
        monkeypatch.setattr(F, "batch_norm", lambda x, *args, **kwargs: torch.empty_like(x))
    published = [w for w in theirs.get_model_weights(name) if w.transforms.keywords["crop_size"] == crop_of(name)]
    meta = published[0].meta
    with torch.device("meta"):
        net = theirs.get_model(name, **AS_PUBLISHED.get(name, {}))
    total = profile(net, (3, crop_of(name), crop_of(name))).total
    assert total.parameters == meta["num_params"]
    assert total.macs / 1e9 == pytest.approx(meta["_ops"], abs=0.0006)  # GMACs, three digits behind the point


def crop_of(name):
    """The image that the network is built for; ViT-H/14's first weights were trained on larger ones."""
    first = next(iter(theirs.get_model_weights(name)))
    return 224 if name == "vit_h_14" else first.transforms.keywords["crop_size"]


def test_all_of_torchvisions_classifiers_are_read():
    assert len(theirs.list_models(module=theirs)) >= 80
    assert {"vit_h_14", "swin_v2_b", "maxvit_t", "regnet_y_128gf"} < set(theirs.list_models(module=theirs))


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "vgg16_bn"])
def test_torchvisions_networks_have_the_same_table_as_ours(name, quick_to_build):
    ours = {"alexnet": ALEXNET, "vgg11": VGG["A"], "vgg16_bn": VGG["D"].change(norm="batch")}[name]
    with torch.device("meta"):
        net = theirs.get_model(name)
    layers, reference = profile(on_meta(ours)).layers, profile(net, (3, 224, 224)).layers
    layers = layers[layers.kind != "flatten"].reset_index(drop=True)  # torchvision has it as a function
    pd.testing.assert_frame_equal(layers, reference)


# --- what a layer sees, by gradients ----------------------------------------------------------------------------------


def seen_by(net, image_shape):
    """Rows and columns of the image that two neighbours in the middle of the output (or the first unit) depend on."""
    x = torch.zeros(1, *image_shape, dtype=torch.float64, requires_grad=True)
    y = net(x)
    if y.dim() == 2:
        places = [(0, 0)]
    else:
        h, w = y.shape[2] // 2, y.shape[3] // 2
        places = [(0, 0, h, w)] + [(0, 0, h - 1, w - 1)] * (min(h, w) > 0)
    spans = []
    for place in places:
        grad = torch.autograd.grad(y[place], x, retain_graph=True)[0].abs().sum((0, 1))
        spans.append([(int(along.nonzero()[0]), int(along.nonzero()[-1])) for along in (grad.sum(1), grad.sum(0))])
    return spans


def transparent(net):
    """Every weight positive, so that no gradient cancels; float64, so that none is lost."""
    net = net.double()
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(1 / max(1, p[0].numel()))
    return net.eval()


def check_against_gradients(net, image_shape):
    """Each layer of the sequence; its middle must lie so far inside that no border cuts what it sees."""
    found = profile(net, image_shape).layers
    net = transparent(net)
    for i, row in enumerate(found.itertuples()):
        spans = seen_by(net[: i + 1], image_shape)
        for start, end in spans[0]:
            assert start > 0 and end < max(image_shape) - 1, "the test's image is too small"
        assert row.receptive_field == max(end - start + 1 for start, end in spans[0])
        if len(spans) == 2:
            assert row.stride == max(here[0] - there[0] for here, there in zip(*spans, strict=True))


def see_through(architecture, **changes):
    """The same kernels and strides, one channel, no activation, no normalisation, average pooling."""
    blocks = tuple(
        Block(
            tuple(dataclasses.replace(c, out_channels=1, groups=1, norm=None, activation=None) for c in block.convs),
            block.pool and Pool("avg", block.pool.kernel_size, block.pool.stride),
        )
        for block in architecture.blocks
    )
    return Architecture(blocks, **{"activation": "identity", "in_channels": 1, **changes})


@pytest.mark.parametrize(
    ("architecture", "image_size"),
    [(LENET, 60), (ALEXNET_SMALL, 120), (ALEXNET, 600), (VGG["A"], 450)],
)
def test_what_the_convolutions_see_is_what_gradients_reach(architecture, image_size):
    net = build(see_through(architecture, image_size=image_size))
    check_against_gradients(net.features, (1, image_size, image_size))


def drawn(draw):
    blocks = []
    for _ in range(draw.randint(1, 3)):
        kernels = [draw.randint(1, 5) for _ in range(draw.randint(1, 2))]
        convs = [Conv(1, k, stride=draw.choice((1, 1, 2)), padding=draw.randint(0, k // 2)) for k in kernels]
        pool = draw.choice((None, Pool("avg"), Pool("avg", 3, 2), Pool("avg", 2, 1), Pool("avg", 3, 3)))
        blocks.append(Block(tuple(convs), pool))
    return blocks


def test_a_network_that_was_changed_after_it_was_built_is_told_by_its_pooling():
    """How many convolutions a block had isn't known of it any more."""
    net = build(vgg_like((2, 2), (8, 16)))
    assert [*profile(net).layers.block[:4]] == [1] * 4
    net.features.append(nn.Conv2d(16, 16, 3, padding=1))
    assert profile(net).layers.set_index("name").block[f"features.{len(net.features) - 1}"] == 3


@pytest.mark.parametrize("seed", range(25))
def test_what_any_convolutions_see_is_what_gradients_reach(seed):
    blocks = drawn(random.Random(seed))
    strides = [layer.stride for b in blocks for layer in (*b.convs, *([b.pool] if b.pool else []))]
    size = min(60 * max(2, torch.tensor(strides).prod().item() // 4), 700)
    net = build(Architecture(blocks, activation="identity", image_size=size))
    check_against_gradients(net.features, (1, size, size))


@pytest.mark.parametrize("pool_size", [None, 1, 3, 4, 7])
def test_a_dense_layer_sees_all_that_came_to_it(pool_size):
    """Windows of adaptive pooling differ in size where it doesn't divide: 11×11 into 3×3, say."""
    convs = (Conv(1, 5, padding=0), Conv(1, 3, stride=2, padding=0), Conv(1, 2, stride=2, padding=0))
    blocks = (Block(convs[:2], Pool("avg", 3, 1)), Block(convs[2:], None))
    net = build(Architecture(blocks, Head((4,), pool_size=pool_size), activation="identity", image_size=58))
    assert net.features(torch.zeros(1, 1, 58, 58)).shape[2:] == (12, 12)
    layers = profile(net).layers
    net = transparent(net)
    ((start, end), _), *_ = seen_by(net, (1, 58, 58))
    assert rows(net, "receptive_field", kind="dense") == [end - start + 1] * 2
    assert end - start + 1 == layers.receptive_field[3] + 11 * layers.stride[3] < 58, "r + (H − 1)·j"
    ((start, end), _), *_ = seen_by(nn.Sequential(net.features, net.avgpool), (1, 58, 58))
    sees = layers.set_index("name").loc["avgpool"]
    assert end - start + 1 <= sees.receptive_field
    assert pd.isna(sees.stride) == (pool_size == 7)


@pytest.mark.parametrize(("into", "widest"), [(1, 11), (2, 6), (3, 5), (5, 3), (10, 2), (11, 1), (13, 2)])
def test_adaptive_pooling_sees_its_widest_window(into, widest):
    x = torch.zeros(1, 1, 11, 11, requires_grad=True)
    y = nn.AdaptiveAvgPool2d(into)(x)
    reached = [torch.autograd.grad(y[0, 0, i, 0], x, retain_graph=True)[0].sum(3).count_nonzero() for i in range(into)]
    assert max(reached) == widest
    assert rows(nn.AdaptiveAvgPool2d(into), "receptive_field", input_shape=(1, 11, 11)) == [widest]


def test_dilation_and_sides_of_their_own():
    net = nn.Sequential(nn.Conv2d(1, 1, 3, dilation=3), nn.Conv2d(1, 1, (1, 5), stride=(1, 2)), nn.AvgPool2d((3, 2)))
    check_against_gradients(net, (1, 64, 64))


def test_what_mixes_all_places_is_not_taken_for_a_pixelwise_layer():
    for layer in (
        nn.GroupNorm(2, 4),
        nn.PixelShuffle(2),
        nn.Softmax(dim=3),
        nn.GLU(dim=2),
        nn.Upsample((9, 9)),
    ):
        net = nn.Sequential(nn.Conv2d(4, 4, 3), layer, nn.ReLU())
        assert rows(net, "receptive_field", input_shape=(4, 10, 10)) == [3, pd.NA, pd.NA], layer
    for layer in (nn.ReLU(), nn.BatchNorm2d(4), nn.LocalResponseNorm(3), nn.Dropout(), nn.Identity(), nn.PReLU(4)):
        net = nn.Sequential(nn.Conv2d(4, 4, 3), layer, nn.Conv2d(4, 4, 3))
        assert rows(net, "receptive_field", input_shape=(4, 10, 10)) == [3, 3, 5], layer


def test_where_the_layers_are_no_chain_what_they_see_is_not_guessed():
    assert rows(Residual(), "name", "receptive_field", input_shape=(1, 9, 9)) == [
        ["first", 3],
        ["second", 5],
        ["third", 7],
        ["scores", pd.NA],
    ]
    with torch.device("meta"):
        net = theirs.resnet18()
    layers = profile(net, (3, 224, 224)).layers
    known = layers.receptive_field.notna().tolist()
    # conv1 7, stride 2; max-pool 11, stride 4; two 3×3: 19 and 27. Then the sum.
    assert layers.receptive_field[:9].tolist() == [7, 7, 7, 11, 19, 19, 19, 27, 27]
    assert known == [True] * 9 + [False] * (len(known) - 9)


@pytest.mark.parametrize(
    "between",
    [
        lambda x: x.add_(x.flip(3)),  # in place, in the very memory that the layer wrote
        lambda x: x.transpose(2, 3),
        lambda x: x[:, :, 1:],
        lambda x: x + 1,
        lambda x: x.reshape(1, 8, 4, 8),
        lambda x: F.max_pool2d(x, 2),
    ],
)
def test_anything_done_between_two_layers_breaks_the_chain(between):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU()

        def forward(self, x):
            return self.second(between(self.first(x)))

    assert rows(Net(), "receptive_field", input_shape=(1, 8, 8))[:2] == [3, pd.NA]


# --- memory in training: what torch keeps, on the CPU -----------------------------------------------------------------


def kept_on_cpu(net, images, autocast=False):
    """Bytes of all memory that the backward pass holds, but for what is the network's own or the input."""
    own = {t.untyped_storage().data_ptr() for t in (*net.parameters(), *net.buffers(), images)}
    saved = {}

    def pack(t):
        saved[t.untyped_storage().data_ptr()] = t.detach()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = net.train()(images)
        assert loss.requires_grad
    return sum(t.untyped_storage().nbytes() for address, t in saved.items() if address not in own)


def own_networks():
    small = {name: architecture for name, architecture in VGG_SMALL.items() if name != "VGG (1,1)"}
    gelu = vgg_like((1, 1), (4, 8), activation="gelu", head=Head((), pool_size=1))
    return {"LeNet (book)": LENET_BOOK, "LeNet": LENET, "AlexNet small": ALEXNET_SMALL, "GELU, pooled": gelu, **small}


@pytest.mark.parametrize("name", own_networks())
@pytest.mark.parametrize("batch_size", [2, 7])
def test_the_activations_that_training_keeps_are_what_torch_keeps(name, batch_size):
    net = build(own_networks()[name])
    memory = profile(net).training_memory(batch_size)
    assert memory["activations"] == kept_on_cpu(net, torch.zeros(batch_size, *net.input_shape))


@pytest.mark.parametrize("name", own_networks())
def test_under_autocast_too(name):
    net = build(own_networks()[name])
    memory = profile(net).training_memory(4, dtype="bfloat16")
    found = kept_on_cpu(net, torch.zeros(4, *net.input_shape), autocast=True)
    assert memory["activations"] + memory["low-precision copies"] == found


def test_and_for_a_network_of_the_students_own():
    net = Residual()
    assert profile(net, (1, 12, 12)).training_memory(3)["activations"] == kept_on_cpu(net, torch.zeros(3, 1, 12, 12))


def test_lenets_training_memory_by_hand():
    memory = profile(build(LENET)).training_memory(128)
    maps = 6 * 28 * 28 + 6 * 14 * 14 + 16 * 10 * 10 + 16 * 5 * 5 + 120 + 84  # after ReLU and pooling; not the scores
    indices = 6 * 14 * 14 + 16 * 5 * 5  # of the largest of each four
    assert memory.to_dict() == {
        "weights": 4 * 61_706,
        "gradients": 4 * 61_706,
        "optimizer state": 4 * 61_706,
        "activations": 128 * (4 * maps + 8 * indices),
        "low-precision copies": 0,
        "input": 128 * 4 * 784,
        "total": memory[:-1].sum(),
    }
    half = profile(build(LENET)).training_memory(128, dtype="float16")
    matrices = 61_706 - (6 + 16 + 120 + 84 + 10)
    assert half["activations"] == 128 * (2 * maps + 8 * indices)
    assert half["low-precision copies"] == 2 * (matrices + 128 * 784)
    assert half["weights"] == memory["weights"], "autocast keeps the float32 ones"


@pytest.mark.parametrize(
    ("options", "make"),
    [
        ({}, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True)),
        ({"momentum": 0}, lambda p: torch.optim.SGD(p, lr=0.1)),
        ({"optimizer": "adamw"}, torch.optim.AdamW),
    ],
)
@pytest.mark.parametrize("frozen", [False, True])
def test_weights_gradients_and_optimizer_are_what_torch_holds_after_a_step(options, make, frozen):
    net = build(VGG_SMALL["VGG (2,2,2) + BN"])
    net.features.requires_grad_(not frozen)
    optimizer = make(net.parameters())
    net(torch.zeros(2, *net.input_shape)).sum().backward()
    optimizer.step()
    memory = profile(net).training_memory(2, **options)
    state = [t for s in optimizer.state.values() for key, t in s.items() if torch.is_tensor(t) and key != "step"]
    assert memory["optimizer state"] == sum(t.nbytes for t in state)
    assert memory["gradients"] == sum(p.grad.nbytes for p in net.parameters() if p.grad is not None)
    assert memory["weights"] == sum(t.nbytes for t in net.state_dict().values())


def test_memory_grows_by_the_same_for_every_image():
    found = [profile(build(VGG_SMALL["VGG-11 ⅛ + BN"])).training_memory(n) for n in (1, 2, 100)]
    assert ((found[1] - found[0]) * 98 == found[2] - found[1]).all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"batch_size": 2, "dtype": "auto"}, "dtype must be one of 'float32', 'bfloat16', 'float16', got 'auto'"),
        ({"batch_size": 2, "optimizer": "adam"}, "optimizer must be one of 'sgd', 'adamw', got 'adam'"),
        ({"batch_size": 2, "momentum": 1}, "momentum must be a share"),
    ],
)
def test_what_training_memory_cannot_be_asked(arguments, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        profile(build(LENET)).training_memory(**arguments)


# --- any network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "vit_b_16", "densenet121", "googlenet"])
def test_rows_and_blocks_add_up_to_all_parameters_and_macs(name, quick_to_build):
    with torch.device("meta"):
        net = theirs.get_model(name)
    found = profile(net, (3, 224, 224))
    assert found.total.to_dict() == found.layers[COSTS].sum().to_dict() == found.blocks.sum().to_dict()
    assert found.total.parameters == sum(p.numel() for p in net.parameters())
    assert list(found.blocks.index) == list(dict.fromkeys(found.layers.block))


def test_a_sequence_of_ones_own():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 15 * 15, 10))
    found = profile(net, (3, 32, 32))
    assert found.input_shape == (3, 32, 32)
    assert found.layers.name.tolist() == found.layers.block.tolist() == list("01234")
    assert found.layers.activation_bytes.tolist() == [4 * 4 * 900, 4 * 4 * 900, 4 * 4 * 225, 0, 40]
    assert found.layers.receptive_field.tolist() == [3, 3, 4, 4, 32]


def test_what_a_module_does_itself_has_a_row():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(6, 5)
            self.matrix = nn.Parameter(torch.zeros(5, 7))

        def forward(self, x):
            return self.inner(x.flatten(1)) @ self.matrix

    assert rows(
        nn.Sequential(Scaled()), "name", "kind", "parameters", "macs", "activation_bytes", input_shape=(1, 2, 3)
    ) == [
        ["0.inner", "dense", 35, 30, 20],
        ["0", "other", 35, 35, 28],
    ]
    assert rows(Scaled(), "name", input_shape=(1, 2, 3)) == ["inner", "Scaled"]


def test_weights_that_layers_share_are_counted_once():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(self.first(self.first(x)))

    found = profile(Shared(), (4, 5, 5))
    assert found.layers.name.tolist() == ["first", "first", "second"]
    assert found.layers.parameters.tolist() == [4 * 4 * 9 + 4, 0, 0]
    assert found.layers.macs.tolist() == [4 * 4 * 9 * 25] * 3
    assert found.layers.receptive_field.tolist() == [3, 5, 7]


def test_a_layer_that_was_forgotten_shows():
    net = nn.Sequential(nn.Conv2d(1, 2, 3))
    net[0].forgotten = nn.Linear(3, 4)
    found = profile(net, (1, 5, 5))
    last = found.layers.iloc[-1]
    assert (last["name"], last.layer, last.parameters, last.macs) == ("0.forgotten", "3 → 4, never called", 16, 0)
    assert last.output_shape is None
    assert found.total.parameters == 20 + 16


# --- the model stays as it is -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training):
    net = build(VGG_SMALL["VGG (2,2,2) + BN"]).train(training).to(memory_format=torch.channels_last)
    net.features[0].weight.requires_grad_(False)
    calls = []
    net.features[1].register_forward_hook(lambda *args: calls.append(args))
    net.register_forward_pre_hook(lambda *args: calls.append(args))
    state, tensors = copy.deepcopy(net.state_dict()), [id(t) for t in net.state_dict(keep_vars=True).values()]
    settings = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in net.modules()]
    random_numbers = torch.get_rng_state()
    profile(net).training_memory(8)
    assert calls == [], "a student's hooks see no tensors without numbers"
    assert all(torch.equal(t, state[key]) for key, t in net.state_dict().items())
    assert [id(t) for t in net.state_dict(keep_vars=True).values()] == tensors
    assert [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in net.modules()] == settings
    assert [p.requires_grad for p in net.parameters()] == [i > 0 for i in range(len(list(net.parameters())))]
    assert {t.device.type for t in net.state_dict().values()} == {"cpu"}
    assert torch.equal(torch.get_rng_state(), random_numbers)
    net(torch.zeros(2, *net.input_shape))
    assert len(calls) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.double(),
        lambda net: net.bfloat16(),
        lambda net: net.to(memory_format=torch.channels_last),
        lambda net: net.to("meta"),
        lambda net: net.eval(),
        lambda net: net.requires_grad_(False),
    ],
)
def test_what_is_done_to_the_weights_changes_nothing(change):
    expected = profile(build(ALEXNET_SMALL)).layers
    pd.testing.assert_frame_equal(profile(change(build(ALEXNET_SMALL))).layers, expected)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.device("cpu")])
def test_it_may_be_asked_wherever_one_is(mode):
    expected = profile(build(LENET)).training_memory(4)
    with mode():
        assert profile(build(LENET)).training_memory(4).equals(expected)


def test_it_does_not_copy_what_hangs_on_a_model():
    class Heavy:
        def __deepcopy__(self, memo):
            raise AssertionError("copied")

    net = build(LENET)
    net.trainer, net.limits = Heavy(), torch.zeros(2)
    net.features[0].register_forward_hook(lambda *args, heavy=net.trainer: None)
    assert profile(net).total.parameters == 61_706


def test_a_list_that_a_model_keeps_is_not_added_to():
    class Noting(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense, self.notes = nn.Linear(4, 4), []
            self.again = [self.dense]

        def forward(self, x):
            self.notes.append(x)
            return self.again[0](self.dense(x.flatten(1)))

    net = Noting()
    assert profile(net, (1, 2, 2)).total.macs == 32, "the layers in a list are the copy's too"
    assert net.notes == []


def test_tensors_that_a_model_makes_or_holds_itself_do_no_harm():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense, self.shift = nn.Linear(4, 4), torch.ones(4)

        def forward(self, x):
            return self.dense(x.flatten(1) + self.shift + torch.arange(4))

    assert profile(Shifted(), (1, 2, 2)).total.macs == 16


def test_parametrised_and_compiled_models_are_read():
    net = build(LENET)
    nn.utils.parametrizations.weight_norm(net.features[0])
    assert profile(net).layers.macs.sum() == profile(build(LENET)).total.macs
    compiled = build(LENET)
    compiled.compile()
    assert profile(compiled).total.parameters == 61_706


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((LENET,), "model must be a Module, such as build(LENET), got Architecture("),
        ((nn.Flatten(),), "input_shape must be given: this network doesn't say which images it takes"),
        ((nn.Flatten(), 28), "input_shape must be a sequence such as a tuple or a list, got 28"),
        ((nn.Flatten(), (28, 28)), "input_shape must be one image's (channels, height, width), got (28, 28)"),
        ((nn.Flatten(), (1, 28, 2.5)), "input_shape's width must be a whole number of at least 1, got 2.5"),
        ((nn.LazyLinear(3), (1, 2, 2)), "send one batch through it first"),
    ],
)
def test_what_cannot_be_profiled_is_refused_in_words(arguments, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        profile(*arguments)


@pytest.mark.parametrize(
    ("architecture", "input_shape", "says"),
    [
        (LENET, (3, 28, 28), r"features.0, conv 5×5, 1 → 6, given \(3, 28, 28\): .*[Cc]hannel"),
        (LENET, (1, 32, 32), r"classifier.0, dense 400 → 120, given \(576,\): "),
        (VGG["A"], (3, 16, 16), r"features.20, pool max 2×2, given \(512, 1, 1\): .*[Oo]utput size is too small"),
    ],
)
def test_the_layer_that_does_not_fit_is_named(architecture, input_shape, says):
    net = on_meta(architecture)
    with pytest.raises(ValueError, match=says) as error:
        profile(net, input_shape)
    assert str(input_shape) in str(error.value)
    assert "to do: " in str(error.value)
    assert error.value.__cause__ is not None, "torch's own error is there too"
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize(
    "look",
    [
        lambda x: x.sum().item(),
        lambda x: x if x.sum() > 0 else -x,
        lambda x: x.numpy(),
        lambda x: x.tolist(),
    ],
    ids=["item", "if", "numpy", "tolist"],
)
def test_a_network_that_looks_at_its_numbers_is_told_that_here_are_none(look):
    class Looking(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = nn.Linear(4, 2)

        def forward(self, x):
            look(x)
            return self.dense(x.flatten(1))

    with pytest.raises(ValueError, match=r"^the network looks at its numbers while it runs, (?s:.)*to do: leave out"):
        profile(Looking(), (1, 2, 2))


def test_a_fault_in_a_students_code_is_shown_as_it_is():
    class Faulty(nn.Module):
        def forward(self, x):
            return self.no_such_layer(x)

    with pytest.raises(AttributeError, match="no_such_layer"):
        profile(Faulty(), (1, 2, 2))
    Faulty.forward = lambda self, x: x + "a word"
    with pytest.raises(TypeError, match="str"):
        profile(Faulty(), (1, 2, 2))


# --- for people -------------------------------------------------------------------------------------------------------


def test_the_table_in_words():
    table = profile(on_meta(VGG["D"])).in_words()
    assert table.loc["features.0"].tolist() == [
        1, "conv", "3×3, 3 → 64", "64 × 224 × 224", "1,792", "86,704,128", "12.8 MB", "3 px", "1 px",
    ]  # fmt: skip
    assert table.loc["features.1", "memory"] == "0"
    assert table.loc["classifier.0", ["output", "parameters", "stride"]].tolist() == ["4096", "102,764,544", "–"]
    assert table.loc["total", ["block", "parameters", "MACs", "sees"]].tolist() == [
        "",
        "138,357,544",
        "15,470,264,320",
        "",
    ]


def test_a_notebook_shows_the_table_and_says_what_counts_nothing():
    found = profile(on_meta(VGG["E"]))
    for shown in (found._repr_html_(), repr(found)):
        assert "138,357,544" not in shown and "143,667,240" in shown
        assert "features.18" in shown, "no row is left out"
        assert "normalisation, pooling and activations count 0" in shown
    assert found._repr_html_() == profile(on_meta(VGG["E"]))._repr_html_(), "no random ids: the notebook stays the same"


def test_a_profile_is_plain_enough_to_be_kept():
    found = profile(build(LENET))
    again = pickle.loads(pickle.dumps(found))
    assert isinstance(again, Profile)
    pd.testing.assert_frame_equal(again.layers, found.layers)
    assert again.training_memory(3).equals(found.training_memory(3))
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.layers = None
    assert {found.layers[column].dtype.name for column in COSTS} == {"int64"}
    assert {found.layers[column].dtype.name for column in ("receptive_field", "stride")} == {"Int64"}
