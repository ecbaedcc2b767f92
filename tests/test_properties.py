"""What holds for every architecture, every recipe and every junk, not only for those that someone thought of."""

import copy
import itertools
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from torch import nn

from utils.architectures import ACTIVATIONS, INITS, NORMS, POOLS, VGG, Architecture, Block, Conv, Head, Pool
from utils.data import Images
from utils.models import build
from utils.profiling import profile
from utils.training import OPTIMIZERS, SCHEDULES, Recipe, fit

ROOT = Path(__file__).resolve().parent.parent
proven = settings(deadline=None, derandomize=True, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
briefly = settings(proven, max_examples=12)

pytestmark = pytest.mark.usefixtures("one_thread")


# --- architectures that can be built: only what fits is drawn ---------------------------------------------------------

own = st.none() | st.sampled_from(("none", "batch", "lrn"))


@st.composite
def convs(draw, channels, side):
    """A convolution for a map of so many channels and pixels a side."""
    padding = draw(st.integers(0, 3))
    kernel_size = draw(st.integers(1, min(7, side + 2 * padding)))
    groups = draw(st.sampled_from([g for g in (1, 2, 3) if channels % g == 0]))
    out_channels = groups * draw(st.integers(1, 4))
    activation = draw(st.none() | st.sampled_from(ACTIVATIONS))
    return Conv(out_channels, kernel_size, draw(st.integers(1, 3)), padding, groups, draw(own), activation)


@st.composite
def architectures(draw):
    in_channels, image_size = draw(st.integers(1, 4)), draw(st.integers(1, 24))
    channels, side, blocks = in_channels, image_size, []
    for _ in range(draw(st.integers(1, 3))):
        layers = []
        for _ in range(draw(st.integers(1, 3))):
            layers.append(draw(convs(channels, side)))
            channels, side = layers[-1].out_channels, layers[-1].size_after(side)
        pool = None
        if draw(st.booleans()):
            pool = Pool(draw(st.sampled_from(POOLS)), draw(st.integers(1, min(3, side))), draw(st.integers(1, 3)))
            side = pool.size_after(side)
        blocks.append(Block(tuple(layers), pool))
    head = Head(
        hidden=tuple(draw(st.lists(st.integers(1, 9), max_size=2))),
        dropout=draw(st.sampled_from((0, 0.0, 0.25, 0.5))),
        dropout_first=draw(st.booleans()),
        pool_size=draw(st.none() | st.integers(1, side)),
    )
    init = draw(st.sampled_from(INITS))
    return Architecture(
        tuple(blocks),
        head,
        norm=draw(st.sampled_from(NORMS)),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        init=init,
        init_std=draw(st.floats(1e-3, 1.0)) if init == "normal" else None,
        in_channels=in_channels,
        image_size=image_size,
        num_classes=draw(st.integers(1, 12)),
    )


@st.composite
def some_by_hand(draw):
    """An architecture, and what it comes to, counted from its fields: parameters, MACs, side, field and stride."""
    a = draw(architectures())
    channels, side, parameters, macs, sees, stride = a.in_channels, a.image_size, 0, 0, 1, 1
    for block in a.blocks:
        for conv in block.convs:
            weights = conv.out_channels * (channels // conv.groups) * conv.kernel_size**2
            side = (side + 2 * conv.padding - conv.kernel_size) // conv.stride + 1
            parameters += weights + conv.out_channels
            parameters += 2 * conv.out_channels * ((conv.norm or a.norm) == "batch")
            macs += weights * side**2
            sees, stride = sees + (conv.kernel_size - 1) * stride, stride * conv.stride
            channels = conv.out_channels
        if block.pool:
            side = (side - block.pool.kernel_size) // block.pool.stride + 1
            sees, stride = sees + (block.pool.kernel_size - 1) * stride, stride * block.pool.stride
    widths = [channels * (a.head.pool_size or side) ** 2, *a.head.hidden, a.num_classes]
    for before, after in itertools.pairwise(widths):
        parameters += before * after + after
        macs += before * after
    return a, {
        "parameters": parameters,
        "macs": macs,
        "side": side,
        "sees": sees,
        "stride": stride,
        "channels": channels,
    }


@pytest.mark.torch
@proven
@given(some_by_hand(), st.integers(1, 3))
def test_a_valid_architecture_builds_and_gives_scores_of_the_right_shape(drawn, batch):
    a, expected = drawn
    net = build(a).eval()
    images = torch.randn(batch, *a.input_shape)
    maps = net.features(images)
    assert tuple(maps.shape) == (batch, *a.feature_shape) == (batch, expected["channels"], *[expected["side"]] * 2)
    scores = net(images)
    assert tuple(scores.shape) == (batch, a.num_classes) and bool(scores.isfinite().all())
    dense = [layer for layer in net.classifier if isinstance(layer, nn.Linear)]
    assert dense[0].in_features == a.head_in_features and net.input_shape == a.input_shape
    assert a.weight_layers == sum(isinstance(layer, (nn.Conv2d, nn.Linear)) for layer in net.modules())
    assert sum(p.numel() for p in net.parameters()) == expected["parameters"]


@proven
@given(some_by_hand())
def test_its_profile_comes_to_what_one_counts_by_hand(drawn):
    a, expected = drawn
    table = profile(build(a, device="meta"))
    assert table.total.parameters == expected["parameters"] and table.total.macs == expected["macs"]
    assert table.blocks[["parameters", "macs", "activation_bytes"]].sum().equals(table.total)
    last = table.layers[table.layers.name.str.startswith("features.")].iloc[-1]
    assert last.output_shape == a.feature_shape
    assert (last.receptive_field, last.stride) == (expected["sees"], expected["stride"])
    assert table.layers.output_shape.iloc[-1] == (a.num_classes,)


@proven
@given(architectures())
def test_it_survives_json_and_changes_that_change_nothing(a):
    again = Architecture.from_json(a.to_json())
    assert again == a and again.to_json() == a.to_json() and again.digest == a.digest and hash(again) == hash(a)
    assert Architecture.from_dict(json.loads(json.dumps(a.to_dict()))) == a
    assert a.change() == a and a.scaled(1) == a and a.label and isinstance(a.label, str) and a.family


@proven
@given(architectures(), architectures())
def test_two_have_one_digest_only_if_they_are_equal(a, b):
    assert (a.digest == b.digest) == (a == b)
    if a == b:
        assert a.label == b.label


DIGESTS = """
import sys
from utils.architectures import Architecture
for line in sys.stdin:
    print(Architecture.from_json(line).digest)
"""


def test_the_digest_is_the_same_in_every_process():
    drawn = []

    @settings(proven, max_examples=100)
    @given(architectures())
    def draw(a):
        drawn.append(a)

    draw()
    lines = "\n".join(a.to_json() for a in drawn)
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        run = subprocess.run(
            [sys.executable, "-c", DIGESTS], input=lines, capture_output=True, text=True, env=environment, check=True
        )
        assert run.stdout.split() == [a.digest for a in drawn] and len(drawn) >= 100


# --- and those that can't ---------------------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400)
junk = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def in_all(value, where=()):
    """Each place in a description, and what stands there: `blocks`, 0, `convs`, 1, `stride`."""
    if where:
        yield where, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from in_all(inner, (*where, key))


def spoilt(description, where, value):
    changed = copy.deepcopy(description)
    inner = changed
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    return changed


@proven
@given(architectures(), st.data())
def test_one_broken_field_is_a_value_error_that_names_it(a, data):
    description = a.to_dict()
    where, _ = data.draw(st.sampled_from(list(in_all(description))), label="where")
    value = data.draw(junk, label="value")
    try:
        found = Architecture.from_dict(spoilt(description, where, value))
    except ValueError as error:
        name = next(str(key) for key in reversed(where) if isinstance(key, str))
        named = re.search(rf"\b{name}(\[\d+\])*(\..*)? (must|is not a field|is missing)", str(error), flags=re.DOTALL)
        # What is fine in itself, a whole number or a pooling as it is by default, may leave no room for what comes
        # after: then that is named.
        consequences = ("kernel_size", "pool", "groups", "pool_size", "padding")
        is_fine = isinstance(value, int) and not isinstance(value, bool) and value >= (0 if name == "padding" else 1)
        is_fine = is_fine or (name == "pool" and value == {})
        assert named or (is_fine and any(word in str(error) for word in consequences)), (name, str(error))
    else:  # junk may happen to fit
        assert isinstance(found, Architecture)


NUMBERS = (0, -1, 1.5, True, "8", None, math.nan, [3])
WORDS = ("layer", 3, ("batch",), True)
BREAKS = {
    (Conv, "out_channels"): NUMBERS,
    (Conv, "kernel_size"): NUMBERS,
    (Conv, "stride"): NUMBERS,
    (Conv, "groups"): (*NUMBERS, 3),
    (Conv, "padding"): (-1, "valid", 1.5, None, True),
    (Conv, "norm"): WORDS,
    (Conv, "activation"): WORDS,
    (Pool, "kind"): (*WORDS, None),
    (Pool, "kernel_size"): NUMBERS,
    (Pool, "stride"): NUMBERS,
    (Block, "convs"): (3, "conv", None, (), ("conv",)),
    (Block, "pool"): (2, "max", Conv(1)),
    (Head, "hidden"): (128, "128", None, (0,), (1.5,), (True,)),
    (Head, "dropout"): (-0.1, 1, 1.0, "0.5", None, math.nan, True),
    (Head, "dropout_first"): (1, None, "yes"),
    (Head, "pool_size"): (0, -1, 1.5, "1", True),
    (Architecture, "blocks"): (3, "blocks", None, (), (Conv(1),)),
    (Architecture, "head"): (None, 10, {}),
    (Architecture, "norm"): (*WORDS, None),
    (Architecture, "activation"): (*WORDS, None),
    (Architecture, "init"): (*WORDS, None),
    (Architecture, "init_std"): (0.1,),  # with another init than "normal"
    (Architecture, "in_channels"): NUMBERS,
    (Architecture, "image_size"): NUMBERS,
    (Architecture, "num_classes"): NUMBERS,
}
GOOD = {
    Conv: {"out_channels": 4, "kernel_size": 3, "padding": 1},
    Pool: {},
    Block: {"convs": (Conv(4),)},
    Head: {},
    Architecture: {"blocks": (Block((Conv(4),)),)},
}


def test_each_field_has_breaks():
    assert set(BREAKS) == {(kind, f.name) for kind in GOOD for f in fields(kind)}


@pytest.mark.parametrize(
    ("kind", "name", "value"), [(*field, value) for field, values in BREAKS.items() for value in values]
)
def test_each_field_is_checked_and_named(kind, name, value):
    kind(**GOOD[kind])
    with pytest.raises(ValueError, match=rf"^{name}(\[0\])? (must|goes) "):
        kind(**GOOD[kind] | {name: value})


@pytest.mark.parametrize("std", [None, 0, -1.0, "0.1", math.inf, True])
def test_a_normal_initialisation_needs_its_deviation(std):
    with pytest.raises(ValueError, match=r"^init_std must be a number above 0"):
        Architecture(**GOOD[Architecture], init="normal", init_std=std)


@proven
@given(junk)
@example({"blocks": [{"convs": [{"out_channels": 10**400}]}]})
@example({"blocks": {"convs": []}})
def test_any_json_is_an_architecture_or_a_value_error(value):
    for read in (Architecture.from_dict, lambda v: Architecture.from_json(json.dumps(v))):
        try:
            found = read(value)
        except ValueError:
            continue
        assert isinstance(found, Architecture)


@proven
@given(st.text(max_size=40) | st.sampled_from(("[" * 100_000, "{}", '{"blocks":', "NaN", "1e999")))
def test_any_text_is_an_architecture_or_a_value_error(text):
    with pytest.raises(ValueError, match="architecture"):
        Architecture.from_json(text)


@proven
@given(st.sampled_from([f.name for f in fields(Recipe)]), junk)
def test_a_recipe_with_junk_in_a_field_names_it(name, value):
    try:
        recipe = Recipe(**{name: value})
    except ValueError as error:
        assert str(error).startswith(f"{name} must be "), str(error)
    else:  # it happens to be good
        assert asdict(recipe)[name] == value


# --- the loop ---------------------------------------------------------------------------------------------------------

IMAGES = Images(
    torch.randint(256, (48, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8),
    torch.arange(48) % 10,
)
PLAIN = Recipe(epochs=2, batch_size=16, lr=0.05, dtype="float32")

recipes = st.builds(
    Recipe,
    epochs=st.integers(1, 2),
    batch_size=st.integers(8, 60),
    optimizer=st.sampled_from(OPTIMIZERS),
    lr=st.floats(1e-4, 2e-2),
    momentum=st.sampled_from((0.0, 0.9)),
    weight_decay=st.sampled_from((0.0, 5e-4)),
    schedule=st.sampled_from(SCHEDULES),
    augment=st.sampled_from(("none", "flip", "flip+shift")),
    label_smoothing=st.sampled_from((0.0, 0.1)),
    dtype=st.just("float32"),
    channels_last=st.booleans(),
)


def small_net(norm="batch"):
    torch.manual_seed(0)
    blocks = (Block((Conv(4, norm=norm), Conv(4))), Block((Conv(8),)))
    return build(Architecture(blocks, Head(hidden=(16,), dropout=0.25), init="he"))


def losses_of(recipe, seed=0, **options):
    net = small_net(**options)
    return fit(net, IMAGES, recipe, seed=seed, progress=False).losses, net.state_dict()


@briefly
@given(recipes, st.integers(0, 2**31))
def test_the_same_seed_gives_the_same_weights_and_another_gives_others(recipe, seed):
    one, other, third = losses_of(recipe, seed), losses_of(recipe, seed), losses_of(recipe, seed + 1)
    assert one[0] == other[0]
    assert all(torch.equal(one[1][name], other[1][name]) for name in one[1])
    assume(len(IMAGES) > recipe.batch_size)  # else all images are in each batch, and only dropout can differ
    assert one[0] != third[0]


@briefly
@given(recipes)
def test_channels_last_changes_the_order_of_sums_and_nothing_else(recipe):
    """float32 has 24 bits: sums in another order differ by some 1e-7 a step, and a few steps carry that on."""
    one, _ = losses_of(replace(recipe, channels_last=True))
    other, _ = losses_of(replace(recipe, channels_last=False))
    assert one == pytest.approx(other, rel=1e-3)


@briefly
@given(recipes)
def test_autocast_to_bfloat16_gives_nearly_the_same_loss(recipe):
    """bfloat16 has 8 bits: each product is off by up to 1/256, and a layer's errors average out. 3 % for some steps."""
    full, _ = losses_of(recipe)
    half, _ = losses_of(replace(recipe, dtype="bfloat16"))
    assert half == pytest.approx(full, rel=0.03)


@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_compiled_or_not_the_loss_is_the_same(backend, monkeypatch):
    """Without dropout, whose random numbers a compiler may draw in another order. A fused kernel rounds less often."""
    if backend == "inductor" and not any(map(_runs, ("c++", "g++", "clang++"))):
        pytest.skip("NOT TESTED: what torch.compile generates for the CPU, for there is no C++ compiler here.")
    usual, used = nn.Module.compile, []

    def compile_with(self, *arguments, **options):
        used.append(backend)
        return usual(self, *arguments, **options | {"backend": backend})

    monkeypatch.setattr(nn.Module, "compile", compile_with)
    torch._dynamo.reset()
    blocks = (Block((Conv(4), Conv(4))),)
    architecture = Architecture(blocks, Head(hidden=(16,)), init="he", norm="batch")
    losses = {}
    for asked in (False, True):
        torch.manual_seed(0)
        losses[asked] = fit(build(architecture), IMAGES, replace(PLAIN, compile=asked), progress=False).losses
    assert used == [backend] and losses[True] == pytest.approx(losses[False], rel=1e-3)


def _runs(compiler):
    try:
        return subprocess.run([compiler, "--version"], capture_output=True).returncode == 0
    except OSError:
        return False


def test_the_papers_networks_are_among_what_is_described():
    """The properties above are of small ones; the large ones keep theirs."""
    for a in VGG.values():
        assert Architecture.from_json(a.to_json()) == a and profile(build(a, device="meta")).total.parameters > 132e6
