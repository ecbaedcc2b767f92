"""utils/architectures.py: what can be built is described, what cannot is refused with words that help, and equal
architectures have equal digests everywhere."""

import dataclasses
import hashlib
import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from utils import checks
from utils.architectures import (
    ALEXNET,
    ALEXNET_SMALL,
    LENET,
    LENET_BOOK,
    PRESETS,
    VGG,
    VGG_SMALL,
    Architecture,
    Block,
    Conv,
    Head,
    Pool,
    vgg_like,
)
from utils.blocks import conv_layer, pool_layer
from utils.models import build

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = [pytest.param(preset.architecture, id=preset.name) for preset in PRESETS]
TINY = Architecture((Block((Conv(4),)),))


def one(*convs, pool=None, **others):
    """An architecture of one block."""
    return Architecture((Block(convs, pool),), **others)


def run(program, **environment):
    """What a Python program prints, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


# --- what is refused --------------------------------------------------------------------------------------------------

WHOLE = "must be a whole number of at least 1"
NORMS = "must be one of 'none', 'batch', 'lrn'"
ACTIVATIONS = "must be one of 'relu', 'tanh', 'sigmoid', 'gelu', 'identity'"

# (what is made, the whole message): the field, what would work, what it got
REFUSED = {
    "width 0": (lambda: Conv(0), f"out_channels {WHOLE}, got 0"),
    "width -8": (lambda: Conv(-8), f"out_channels {WHOLE}, got -8"),
    "width True": (lambda: Conv(True), f"out_channels {WHOLE}, got True"),
    "width 8.0": (lambda: Conv(8.0), f"out_channels {WHOLE}, got 8.0"),
    "width '8'": (lambda: Conv("8"), f"out_channels {WHOLE}, got '8'"),
    "width None": (lambda: Conv(None), f"out_channels {WHOLE}, got None"),
    "kernel 0": (lambda: Conv(8, 0), f"kernel_size {WHOLE}, got 0"),
    "kernel (3, 3)": (lambda: Conv(8, (3, 3)), f"kernel_size {WHOLE}, got (3, 3)"),
    "stride 0": (lambda: Conv(8, stride=0, padding=1), f"stride {WHOLE}, got 0"),
    "stride 1.5": (lambda: Conv(8, stride=1.5, padding=1), f"stride {WHOLE}, got 1.5"),
    "groups 0": (lambda: Conv(8, groups=0), f"groups {WHOLE}, got 0"),
    "groups 3 of 8": (lambda: Conv(8, groups=3), "groups must divide out_channels=8, got 3"),
    "padding -1": (lambda: Conv(8, padding=-1), "padding must be a whole number of at least 0, got -1"),
    "padding True": (lambda: Conv(8, padding=True), "padding must be a whole number of at least 0, got True"),
    "padding 1.0": (lambda: Conv(8, padding=1.0), "padding must be a whole number of at least 0, got 1.0"),
    "padding 'valid'": (
        lambda: Conv(8, padding="valid"),
        "padding must be 'same' or a whole number of at least 0, got 'valid'",
    ),
    "an even kernel": (
        lambda: Conv(8, 4),
        "padding='same' needs an odd kernel_size and stride 1, got kernel_size=4 and stride=1: take an odd kernel such "
        "as 5 with stride 1, or give padding as a number",
    ),
    "a stride that keeps the size": (
        lambda: Conv(8, stride=2),
        "padding='same' needs an odd kernel_size and stride 1, got kernel_size=3 and stride=2: take an odd kernel such "
        "as 3 with stride 1, or give padding as a number",
    ),
    "a convolution's norm": (lambda: Conv(8, norm="bn"), f"norm {NORMS}, got 'bn'"),
    "a convolution's activation": (lambda: Conv(8, activation=nn.ReLU), f"activation {ACTIVATIONS}, got {nn.ReLU!r}"),
    "pool kind": (lambda: Pool("mean"), "kind must be one of 'max', 'avg', got 'mean'"),
    "pool kernel": (lambda: Pool("max", 0), f"kernel_size {WHOLE}, got 0"),
    "pool stride": (lambda: Pool("max", 2, True), f"stride {WHOLE}, got True"),
    "no convolution": (lambda: Block(()), "convs must hold at least one Conv, got none"),
    "a bare convolution": (
        lambda: Block(Conv(8)),
        f"convs must be a sequence such as a tuple or a list, got {Conv(8)!r}",
    ),
    "a width for a convolution": (lambda: Block((Conv(8), 16)), "convs[1] must be a Conv, got 16"),
    "pool True": (lambda: Block((Conv(8),), True), "pool must be a Pool or None, got True"),
    "hidden 128": (lambda: Head(128), "hidden must be a sequence such as a tuple or a list, got 128"),
    "hidden '128'": (lambda: Head("128"), "hidden must be a sequence such as a tuple or a list, got '128'"),
    "a hidden layer of 0": (lambda: Head((128, 0)), f"hidden[1] {WHOLE}, got 0"),
    "a hidden layer of True": (lambda: Head([True]), f"hidden[0] {WHOLE}, got True"),
    "dropout 1": (lambda: Head(dropout=1), "dropout must be a share from 0 up to, not including, 1, got 1"),
    "dropout -0.1": (lambda: Head(dropout=-0.1), "dropout must be a share from 0 up to, not including, 1, got -0.1"),
    "dropout nan": (
        lambda: Head(dropout=float("nan")),
        "dropout must be a share from 0 up to, not including, 1, got nan",
    ),
    "dropout True": (lambda: Head(dropout=True), "dropout must be a share from 0 up to, not including, 1, got True"),
    "dropout '0.5'": (lambda: Head(dropout="0.5"), "dropout must be a share from 0 up to, not including, 1, got '0.5'"),
    "dropout_first 1": (lambda: Head(dropout_first=1), "dropout_first must be True or False, got 1"),
    "pool_size 0": (lambda: Head(pool_size=0), f"pool_size {WHOLE}, got 0"),
    "pool_size 7.0": (lambda: Head(pool_size=7.0), f"pool_size {WHOLE}, got 7.0"),
    "no blocks": (lambda: Architecture(()), "blocks must hold at least one Block, got none"),
    "a bare block": (
        lambda: Architecture(TINY.blocks[0]),
        f"blocks must be a sequence such as a tuple or a list, got {TINY.blocks[0]!r}",
    ),
    "convolutions for blocks": (lambda: Architecture((Conv(8),)), f"blocks[0] must be a Block, got {Conv(8)!r}"),
    "head None": (lambda: TINY.change(head=None), "head must be a Head, got None"),
    "norm None": (lambda: TINY.change(norm=None), f"norm {NORMS}, got None"),
    "norm 'Batch'": (lambda: TINY.change(norm="Batch"), f"norm {NORMS}, got 'Batch'"),
    "activation": (lambda: TINY.change(activation="swish"), f"activation {ACTIVATIONS}, got 'swish'"),
    "init": (
        lambda: TINY.change(init="kaiming"),
        "init must be one of 'default', 'he', 'xavier', 'normal', got 'kaiming'",
    ),
    "in_channels 0": (lambda: TINY.change(in_channels=0), f"in_channels {WHOLE}, got 0"),
    "image_size 28.0": (lambda: TINY.change(image_size=28.0), f"image_size {WHOLE}, got 28.0"),
    "num_classes True": (lambda: TINY.change(num_classes=True), f"num_classes {WHOLE}, got True"),
    "normal without its std": (
        lambda: TINY.change(init="normal"),
        "init_std must be a number above 0 for init='normal', got None",
    ),
    "std 0": (
        lambda: TINY.change(init="normal", init_std=0),
        "init_std must be a number above 0 for init='normal', got 0",
    ),
    "std True": (
        lambda: TINY.change(init="normal", init_std=True),
        "init_std must be a number above 0 for init='normal', got True",
    ),
    "std infinite": (
        lambda: TINY.change(init="normal", init_std=float("inf")),
        "init_std must be a number above 0 for init='normal', got inf",
    ),
    "std for another init": (
        lambda: TINY.change(init="he", init_std=0.1),
        "init_std goes with init='normal' alone, got 0.1 with 'he'",
    ),
    "groups of the image": (
        lambda: one(Conv(8, groups=2)),
        "blocks[0].convs[0].groups must divide the one channel that comes in, got 2",
    ),
    "groups of the layer before": (
        lambda: Architecture((Block((Conv(9),)), Block((Conv(8), Conv(8, groups=8), Conv(9), Conv(8, groups=4))))),
        "blocks[1].convs[3].groups must divide the 9 channels that come in, got 4",
    ),
    "a kernel larger than the image": (
        lambda: one(Conv(8, 5, padding=0), Conv(8, 25, padding=0)),
        "blocks[0].convs[1].kernel_size is 25, but only 24×24 pixels (with padding 0) are left of the 28×28 image: "
        "take a smaller kernel, more padding or a larger image_size",
    ),
    "five poolings of 28 pixels": (
        lambda: vgg_like((1,) * 5, (8,) * 5),
        "blocks[4].pool: only 1×1 of the 28×28 image is left to pool over 2×2: take at most 4 pooled blocks, pool=None "
        "here, or a larger image_size",
    ),
    "three poolings of 4 pixels, one block without": (
        lambda: Architecture((Block((Conv(8),), None), *(Block((Conv(8),)),) * 3), image_size=4),
        "blocks[3].pool: only 1×1 of the 4×4 image is left to pool over 2×2: take at most 2 pooled blocks, pool=None "
        "here, or a larger image_size",
    ),
    "two poolings of 2 pixels": (
        lambda: vgg_like((1, 1), (8, 8), image_size=2),
        "blocks[1].pool: only 1×1 of the 2×2 image is left to pool over 2×2: take at most 1 pooled block, pool=None "
        "here, or a larger image_size",
    ),
    "a head that does not fit": (
        lambda: vgg_like((1, 1), (8, 16), head=Head(pool_size=8)),
        "head.pool_size is 8, but the last feature map is only 7×7: take pool_size=7 or less, fewer pooled blocks, or "
        "a larger image_size than 28",
    ),
    "lengths": (
        lambda: vgg_like((1, 1), (8, 16, 32)),
        "num_convs, channels and kernel_size need one entry a block, got 2, 3 and 2 of them",
    ),
    "lengths of kernels": (
        lambda: vgg_like((1, 1), (8, 16), kernel_size=(3, 5, 7)),
        "num_convs, channels and kernel_size need one entry a block, got 2, 2 and 3 of them",
    ),
    "vgg_like of numbers": (
        lambda: vgg_like(2, 16),
        "num_convs must be a sequence such as a tuple or a list, got 2",
    ),
    "vgg_like of nothing": (lambda: vgg_like((), ()), "blocks must hold at least one Block, got none"),
    "num_convs 0": (lambda: vgg_like((1, 0), (8, 16)), f"num_convs[1] {WHOLE}, got 0"),
    "num_convs 2.0": (lambda: vgg_like((1, 2.0), (8, 16)), f"num_convs[1] {WHOLE}, got 2.0"),
    "channels 0": (lambda: vgg_like((1, 1), (8, 0)), f"channels[1] {WHOLE}, got 0"),
    "channels True": (lambda: vgg_like((1, 1), (True, 8)), f"channels[0] {WHOLE}, got True"),
    "vgg_like's kernel 3.0": (lambda: vgg_like((1,), (8,), kernel_size=3.0), f"kernel_size {WHOLE}, got 3.0"),
    "vgg_like's kernel '3'": (lambda: vgg_like((1,), (8,), kernel_size="3"), f"kernel_size {WHOLE}, got '3'"),
    "vgg_like's kernel True": (lambda: vgg_like((1,), (8,), kernel_size=True), f"kernel_size {WHOLE}, got True"),
    "vgg_like's kernel 2": (
        lambda: vgg_like((1,), (8,), kernel_size=2),
        "padding='same' needs an odd kernel_size and stride 1, got kernel_size=2 and stride=1: take an odd kernel such "
        "as 3 with stride 1, or give padding as a number",
    ),
    "vgg_like's head": (lambda: vgg_like((1,), (8,), head=()), "head must be a Head, got ()"),
    "an unknown field": (
        lambda: TINY.change(colour="red"),
        "colour is not a field of Architecture: it has activation, blocks, head, image_size, in_channels, init, "
        "init_std, norm, num_classes",
    ),
    "factor 0": (lambda: TINY.scaled(0), "factor must be a number above 0, got 0"),
    "factor -1": (lambda: TINY.scaled(-1), "factor must be a number above 0, got -1"),
    "factor True": (lambda: TINY.scaled(True), "factor must be a number above 0, got True"),
    "factor '1/8'": (lambda: TINY.scaled("1/8"), "factor must be a number above 0, got '1/8'"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_with_the_field_what_it_got_and_what_works(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message


def test_what_the_messages_advise_works():
    for kernel in (2, 4, 10):
        with pytest.raises(ValueError, match=f"an odd kernel such as {kernel + 1} "):
            Conv(8, kernel)
        assert Conv(8, kernel + 1).size_after(28) == 28
    assert Conv(8, 4, padding=2).size_after(28) == 29
    assert vgg_like((1,) * 4, (8,) * 4).feature_shape == (8, 1, 1)
    blocks = (Block((Conv(8),), None), *(Block((Conv(8),)),) * 2)
    assert Architecture(blocks, image_size=4).feature_shape == (8, 1, 1)
    assert Architecture((*blocks, Block((Conv(8),), None)), image_size=4).feature_shape == (8, 1, 1)
    assert vgg_like((1,) * 5, (8,) * 5, image_size=32).feature_shape == (8, 1, 1)
    assert vgg_like((1, 1), (8, 16), head=Head(pool_size=7)).feature_shape == (16, 7, 7)


def test_refused_exactly_where_torch_cannot_run():
    rng = random.Random(0)
    outcomes = {"built": 0, "refused": 0}
    for _ in range(600):
        size, blocks, layers, channels = rng.randint(1, 24), [], [], 1
        for _ in range(rng.randint(1, 3)):
            k, s, p = rng.randint(1, 9), rng.randint(1, 3), rng.randint(0, 3)
            pool = rng.choice([None, Pool("max", rng.randint(1, 4), rng.randint(1, 4)), Pool("avg"), Pool()])
            blocks.append(Block((Conv(2, k, s, p),), pool))
            layers += conv_layer(channels, 2, k, stride=s, padding=p)
            layers += pool_layer(pool.kind, pool.kernel_size, pool.stride) if pool else []
            channels = 2
        try:
            expected = nn.Sequential(*layers)(torch.zeros(1, 1, size, size)).shape[1:]
        except RuntimeError:
            with pytest.raises(ValueError, match="image_size"):
                Architecture(tuple(blocks), image_size=size)
            outcomes["refused"] += 1
        else:
            assert Architecture(tuple(blocks), image_size=size).feature_shape == expected
            outcomes["built"] += 1
    assert min(outcomes.values()) > 100, outcomes


def test_frozen_and_hashable():
    for part, name in ((LENET, "norm"), (LENET.head, "dropout"), (LENET.blocks[0], "pool"), (Conv(8), "groups")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, name, getattr(part, name))
    assert len({preset.architecture for preset in PRESETS}) == len(PRESETS)
    lists = Architecture([Block([Conv(16)]), Block([Conv(32)])], Head([128]), init="he")
    assert lists == VGG_SMALL["VGG (1,1)"] and hash(lists) == hash(VGG_SMALL["VGG (1,1)"])
    assert {lists: "found"}[vgg_like([1, 1], [16, 32])] == "found"


def test_same_padding_is_the_number_it_stands_for():
    for kernel in (1, 3, 5, 11):
        assert Conv(8, kernel).padding == kernel // 2
        assert Conv(8, kernel) == Conv(8, kernel, padding="same") == Conv(8, kernel, padding=kernel // 2)
    assert Conv(8, 5) != Conv(8, 5, padding=1)


# --- JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", NETWORKS)
def test_json_there_and_back(architecture):
    text = architecture.to_json()
    revived = Architecture.from_json(text)
    assert revived == architecture and hash(revived) == hash(architecture)
    assert revived.to_json() == text and text.isascii()
    assert Architecture.from_dict(architecture.to_dict()) == architecture
    assert json.loads(text) == architecture.to_dict()
    assert Architecture.from_json(json.dumps(json.loads(text), indent=2)) == architecture, (
        "as a person would lay it out"
    )


def test_json_keeps_every_field():
    everything = Architecture(
        (
            Block((Conv(6, 4, 2, 3, 3, "none", "gelu"), Conv(8, 5, padding=1)), Pool("avg", 3, 1)),
            Block((Conv(4, norm="lrn"),), None),
        ),
        Head((7, 5), 0.25, True, 2),
        norm="batch",
        activation="tanh",
        init="normal",
        init_std=0.1,
        in_channels=3,
        image_size=30,
        num_classes=7,
    )
    text = everything.to_json()
    assert Architecture.from_json(text) == everything
    assert '"dropout":0.25,"dropout_first":true,"hidden":[7,5],"pool_size":2' in text


def test_json_leaves_defaults_out_and_takes_them():
    blocks = '[{"convs":[{"out_channels":16}]},{"convs":[{"out_channels":32}]}]'
    expected = f'{{"blocks":{blocks},"head":{{"hidden":[128]}},"init":"he"}}'
    assert VGG_SMALL["VGG (1,1)"].to_json() == expected
    spelled_out = {
        "num_classes": 10,
        "image_size": 28,
        "in_channels": 1,
        "init_std": None,
        "init": "he",
        "activation": "relu",
        "norm": "none",
        "head": {"hidden": [128], "dropout": 0, "dropout_first": False, "pool_size": None},
        "blocks": [
            {
                "pool": {"kind": "max", "kernel_size": 2, "stride": 2},
                "convs": [
                    {"out_channels": width, "kernel_size": 3, "stride": 1, "padding": padding, "groups": 1}
                    | {"norm": None, "activation": None}
                ],
            }
            for width, padding in ((16, "same"), (32, 1))
        ],
    }
    assert Architecture.from_dict(spelled_out).to_json() == expected
    conv, block = '{"out_channels":16}', '{"convs":[{"out_channels":16}]}'
    assert Architecture.from_json(f'{{"blocks":[{{"convs":[{conv}],"pool":null}}]}}').blocks[0].pool is None
    assert Architecture.from_json(f'{{"blocks":[{block}]}}').blocks[0].pool == Pool()


CONV_FIELDS = "it has out_channels, kernel_size, stride, padding, groups, norm, activation"
JSON_REFUSED = {
    "": "architecture must be JSON as to_json() writes it, got '': Expecting value",
    '{"blocks": [': "architecture must be JSON as to_json() writes it, got '{\"blocks\": [': Expecting value",
    "{'blocks': 3}": "architecture must be JSON as to_json() writes it, got \"{'blocks': 3}\": Expecting property name",
    None: "architecture must be JSON as to_json() writes it, got None: the JSON object must be str",
    b"\xff{}": "architecture must be JSON as to_json() writes it, got b'\\xff{}': 'utf-8' codec can't decode",
    "[" * 100_000: "architecture must be JSON as to_json() writes it, got '[[[[[[",
    "[]": "architecture must be an object with the fields of Architecture, got []",
    "3": "architecture must be an object with the fields of Architecture, got 3",
    "{}": "architecture.blocks is missing: Architecture needs it, got {}",
    '{"blocks":[]}': "architecture: blocks must hold at least one Block, got none",
    '{"blocks":"A"}': "architecture.blocks must be a sequence such as a tuple or a list, got 'A'",
    '{"blocks":[3]}': "architecture.blocks[0] must be an object with the fields of Block, got 3",
    '{"blocks":[{}]}': "architecture.blocks[0].convs is missing: Block needs it, got {}",
    '{"blocks":[{"convs":[{"kernel_size":5}]}]}': (
        "architecture.blocks[0].convs[0].out_channels is missing: Conv needs it, got {'kernel_size': 5}"
    ),
    '{"blocks":[{"convs":[{"out_channels":8},{"out_channels":8,"kernel":5}]}]}': (
        f"architecture.blocks[0].convs[1].kernel is not a field of Conv: {CONV_FIELDS}"
    ),
    '{"blocks":[{"convs":[{"out_channels":"8"}]}]}': (
        f"architecture.blocks[0].convs[0]: out_channels {WHOLE}, got '8'"
    ),
    '{"blocks":[{"convs":[{"out_channels":NaN}]}]}': (
        f"architecture.blocks[0].convs[0]: out_channels {WHOLE}, got nan"
    ),
    '{"blocks":[{"convs":[{"out_channels":8}],"pool":"max"}]}': (
        "architecture.blocks[0].pool must be an object with the fields of Pool, got 'max'"
    ),
    '{"blocks":[{"convs":[{"out_channels":8}],"pool":{"size":2}}]}': (
        "architecture.blocks[0].pool.size is not a field of Pool: it has kind, kernel_size, stride"
    ),
    '{"blocks":[{"convs":[{"out_channels":8}]}],"head":null}': (
        "architecture.head must be an object with the fields of Head, got None"
    ),
    '{"blocks":[{"convs":[{"out_channels":8}]}],"head":{"dropout":1.5}}': (
        "architecture.head: dropout must be a share from 0 up to, not including, 1, got 1.5"
    ),
    '{"blocks":[{"convs":[{"out_channels":8}]}],"image_size":1}': (
        "architecture: blocks[0].pool: only 1×1 of the 1×1 image is left to pool over 2×2: take at most 0 pooled blocks"
    ),
    '{"blocks":[{"convs":[{"out_channels":8}]}],"blcoks":[]}': (
        "architecture.blcoks is not a field of Architecture: it has blocks, head, norm, activation, init, init_std, "
        "in_channels, image_size, num_classes"
    ),
}


@pytest.mark.parametrize(("text", "message"), JSON_REFUSED.items(), ids=lambda value: str(value)[:40])
def test_json_that_does_not_fit_is_refused_with_its_place(text, message):
    with pytest.raises(ValueError) as caught:
        Architecture.from_json(text)
    assert type(caught.value) is ValueError and str(caught.value).startswith(message)
    assert len(str(caught.value)) < 400


# --- the digest -------------------------------------------------------------------------------------------------------

# Results are filed under these: whatever changes one orphans every result of that network.
GOLDEN = {
    "LeNet (book)": "b52ec0194bd4bccf7bd947f27bada150c3b21e4141416a24477ecfa74e034458",
    "AlexNet": "d5d2135a5d53b830be702cfa6313fd4658d8f77298e084d9bbb0ea8ef0909642",
    "AlexNet small": "3318a50e3c743ba1a25be5f7d4738a2bba90acc45ef2b841395cf30e8490f88c",
    "VGG-11 (A-LRN)": "b2235bd73fbfd14ce453356a4dd0ceb70e6830ffd568312c7011d935a892a3b2",
    "VGG-16 (C)": "ce9bf970d94ec09bd36bdc7f8273434f0b8e09153fe342e4c7240c2a20b403ff",
    "VGG-19 (E)": "4f462d9adc1e09cb02f1ddc32beb23806332dbbff35a8b257317930471ec4f2f",
    "VGG (1,1)": "0fc1663c3af05529ede776cc21484f6fa2f2362afd3eec3c0844f65a1f70128e",
    "VGG (2,2,2) + BN": "007fc04bd1118d5ca8997615a728ac47c02868eab9441a087b5bd989654b967b",
}


def test_digests_are_those_that_results_are_filed_under():
    digests = {preset.name: preset.architecture.digest for preset in PRESETS}
    assert {name: digests[name] for name in GOLDEN} == GOLDEN
    assert len(set(digests.values())) == len(PRESETS)


def test_the_digest_is_the_sha256_of_the_json():
    text = b'{"blocks":[{"convs":[{"out_channels":4}]}]}'
    assert TINY.to_json().encode() == text and TINY.digest == hashlib.sha256(text).hexdigest()


def test_the_digest_is_the_same_in_every_process():
    program = "from utils.architectures import PRESETS\nfor p in PRESETS: print(p.architecture.digest)"
    here = [preset.architecture.digest for preset in PRESETS]
    assert run(program, PYTHONHASHSEED="1") == run(program, PYTHONHASHSEED="2") == here


def test_equal_architectures_have_equal_digests():
    by_hand = Architecture(
        [Block([Conv(8, 5, padding=2)] * 2)], Head([128], dropout=0), init="normal", init_std=1, num_classes=3
    )
    short = vgg_like([2], [8], kernel_size=[5], init="normal", init_std=1.0, num_classes=3)
    assert by_hand == short and by_hand.digest == short.digest
    for preset in PRESETS:
        again = preset.architecture.change(num_classes=7).change(num_classes=preset.architecture.num_classes)
        assert again == preset.architecture and again.digest == preset.architecture.digest


OTHER = {
    Architecture: {
        "blocks": (Block((Conv(12, 5, 2, 2),)), Block((Conv(12),))),
        "head": Head((64,)),
        "norm": "batch",
        "activation": "tanh",
        "init": "he",
        "init_std": 0.2,
        "in_channels": 3,
        "image_size": 29,
        "num_classes": 11,
    },
    Block: {"convs": (Conv(12, 5, 2, 2), Conv(12)), "pool": None},
    Conv: {
        "out_channels": 24,
        "kernel_size": 4,
        "stride": 3,
        "padding": 1,
        "groups": 2,
        "norm": "none",
        "activation": "relu",
    },
    Pool: {"kind": "avg", "kernel_size": 3, "stride": 1},
    Head: {"hidden": (32, 16), "dropout": 0.5, "dropout_first": True, "pool_size": 2},
}


def variants():
    """For each field of each part, an architecture that differs from the first in that field alone."""
    conv, pool, head = Conv(12, 5, 2, 2), Pool(), Head((32,))
    base = Architecture((Block((conv,), pool),), head, in_channels=2)
    yield "", base
    for name, value in OTHER[Architecture].items():
        if name == "init_std":
            yield "init normal", base.change(init="normal", init_std=0.1)
            yield name, base.change(init="normal", init_std=value)
        else:
            yield name, base.change(**{name: value})
    for name, value in OTHER[Head].items():
        yield name, base.change(head=replace(head, **{name: value}))
    for name, value in OTHER[Block].items():
        yield name, base.change(blocks=(replace(base.blocks[0], **{name: value}),))
    for name, value in OTHER[Conv].items():
        yield name, base.change(blocks=(Block((replace(conv, **{name: value}),), pool),))
    for name, value in OTHER[Pool].items():
        yield name, base.change(blocks=(Block((conv,), replace(pool, **{name: value})),))


def test_the_digest_differs_when_any_field_does():
    for kind, others in OTHER.items():
        assert set(others) == {field.name for field in dataclasses.fields(kind)}, "a new field wants its line above"
    found = [(name, architecture.digest) for name, architecture in variants()]
    assert len(found) == 2 + sum(map(len, OTHER.values()))
    assert len({digest for _, digest in found}) == len(found), found


# --- light ------------------------------------------------------------------------------------------------------------


def test_describing_a_network_needs_no_torch():
    program = (
        "import sys, utils.architectures as a\n"
        "a.Architecture.from_json(a.VGG['E'].scaled(1 / 8).to_json()).label\n"
        "print(*{'torch', 'torchvision', 'numpy', 'matplotlib', 'pandas', 'ipywidgets'} & set(sys.modules))"
    )
    assert run(program) == []


# --- labels and families ----------------------------------------------------------------------------------------------


def test_presets_have_short_labels_of_their_own():
    labels = [preset.architecture.label for preset in PRESETS]
    assert labels == [preset.name for preset in PRESETS] and len(set(labels)) == len(labels)
    assert max(map(len, labels)) <= 20
    for preset in PRESETS:
        assert preset.architecture.family == preset.family in ("LeNet", "AlexNet", "VGG")


MIXED = Architecture(
    (
        Block((Conv(32, 5, 2, 2), Conv(32, groups=2, norm="batch")), Pool("max", 3, 2)),
        Block((Conv(64, padding=0, activation="tanh"),), Pool("avg")),
        Block((Conv(64, 1),), None),
    ),
    Head((256,)),
)

IMAGENET = "3 channels in, 224², 1000 classes"
LABELS = {
    "VGG-11 (A), 10 classes": (VGG["A"].change(num_classes=10), "VGG"),
    "VGG-11 (A), BN": (VGG["A"].change(norm="batch"), "VGG"),
    "LeNet, 1 class": (LENET.change(num_classes=1), "LeNet"),
    "LeNet (book), relu": (LENET_BOOK.change(activation="relu"), "LeNet"),
    "LeNet, 3 channels in, 32²": (LENET.change(in_channels=3, image_size=32), "LeNet"),
    "AlexNet small, init normal, std 0.01": (ALEXNET_SMALL.change(init="normal", init_std=0.01), "AlexNet"),
    "VGG (2,2)": (vgg_like((2, 2), (16, 32)), "VGG"),
    "VGG (2,1) 8-16": (vgg_like((2, 1), (8, 16)), "VGG"),
    "VGG (1,1) 8-16 k5, BN": (vgg_like((1, 1), (8, 16), kernel_size=5, norm="batch"), "VGG"),
    "VGG (1,1) 8-16 k7-3": (vgg_like((1, 1), (8, 16), kernel_size=(7, 3)), "VGG"),
    "VGG (1,1) 8-16 → 64-32": (vgg_like((1, 1), (8, 16), head=Head((64, 32))), "VGG"),
    "VGG (1,1) 8-16 → no hidden": (vgg_like((1, 1), (8, 16), head=Head()), "VGG"),
    "VGG (1,1) 8-16 → pooled": (vgg_like((1, 1), (8, 16), head=Head(pool_size=1)), "VGG"),
    "VGG (1,1) 8-16 → pooled 3² 128": (vgg_like((1, 1), (8, 16), head=Head((128,), pool_size=3)), "VGG"),
    "VGG (1,1) 8-16, dropout 0.5": (vgg_like((1, 1), (8, 16), head=Head((128,), dropout=0.5)), "VGG"),
    "VGG (1,1) 8-16, sigmoid, init default": (
        vgg_like((1, 1), (8, 16), activation="sigmoid", init="default"),
        "VGG",
    ),
    f"VGG (1,1,2,2,2) 8-16-32-64-64 → 512-512, dropout 0.5, {IMAGENET}": (VGG["A"].scaled(1 / 8), "VGG"),
    f"8+lrn | 16 | 32 32 | 64 64 | 64 64 → 512-512-1000, dropout 0.5, {IMAGENET}": (VGG["A-LRN"].scaled(1 / 8), "VGG"),
    f"8 8 | 16 16 | 32 32 32k1 | 64 64 64k1 | 64 64 64k1 → 512-512-1000, dropout 0.5, {IMAGENET}": (
        VGG["C"].scaled(1 / 8),
        "VGG",
    ),
    "16 8k5 8k5 8k5 | 4×8 16 unpooled → 10, init default": (
        Architecture((Block((Conv(16), *(Conv(8, 5),) * 3)), Block((*(Conv(8),) * 4, Conv(16)), None))),
        "other",
    ),
    "8g2 8g2 → 10, init default, 2 channels in": (
        Architecture((Block((Conv(8, groups=2),) * 2),), in_channels=2),
        "other",
    ),
    "32k5s2 32g2+batch max3s2 | 64p0+tanh avg | 64k1 unpooled → 256-10, init default": (MIXED, "other"),
    "12k5s2 max3s2 | 32k5 max3s2 | 48 48 48 unpooled → 128-128-10, dropout 0.5 first": (
        ALEXNET_SMALL.scaled(1 / 2),
        "other",
    ),
}


@pytest.mark.parametrize(("label", "architecture", "family"), [(k, *v) for k, v in LABELS.items()], ids=LABELS)
def test_labels_and_families_come_from_the_fields(label, architecture, family):
    assert architecture.label == label
    assert architecture.family == family


def test_the_arms_of_a_sweep_have_labels_of_their_own():
    for arms in (
        [a.scaled(1 / 8) for a in VGG.values()],
        [vgg_like((2, 2), (8, 16), head=Head((128,), dropout=share)) for share in (0, 0.25, 0.5)],
        [vgg_like((2, 2), (8, 16), norm=norm) for norm in ("none", "batch", "lrn")],
        [vgg_like((n, n), (8, 16), kernel_size=k) for n in (1, 2, 3) for k in (3, 5, 7)],
        [ALEXNET_SMALL.change(blocks=(Block((Conv(8),), p),)) for p in (None, Pool(), Pool("avg"), Pool("max", 3, 2))],
        [vgg_like((1, 1), (8, 16), image_size=size, in_channels=c) for size in (28, 32) for c in (1, 3)],
        [one(Conv(8, 5, padding=p), Conv(8, groups=g)) for p in (0, 2) for g in (1, 2)],
    ):
        assert len({architecture.label for architecture in arms}) == len(arms), [a.label for a in arms]


# --- what follows from the fields -------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", [*NETWORKS, pytest.param(MIXED, id="mixed")])
def test_shapes_are_those_of_the_real_network(architecture):
    net = build(architecture, device="meta")
    images = torch.empty(2, *architecture.input_shape, device="meta")
    assert net.features(images).shape == (2, *architecture.feature_shape)
    assert net.flatten(net.avgpool(net.features(images))).shape == (2, architecture.head_in_features)
    assert net(images).shape == (2, architecture.num_classes)
    convs = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    dense = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    assert [conv.out_channels for conv in convs] == [conv.out_channels for conv in architecture.convs]
    assert [layer.out_features for layer in dense] == [*architecture.head.hidden, architecture.num_classes]
    assert architecture.weight_layers == len(convs) + len(dense)


def test_shapes_are_those_of_the_papers():
    assert all(a.feature_shape == (512, 7, 7) and a.head_in_features == 512 * 7 * 7 for a in VGG.values())
    assert [VGG[name].weight_layers for name in ("A", "A-LRN", "B", "C", "D", "E")] == [11, 11, 13, 16, 16, 19]
    assert ALEXNET.feature_shape == (256, 6, 6) and ALEXNET.weight_layers == 8
    assert LENET_BOOK.feature_shape == LENET.feature_shape == (16, 5, 5)
    assert LENET_BOOK.head_in_features == 400 and LENET_BOOK.weight_layers == 5


def test_change_makes_a_copy():
    changed = LENET.change(norm="batch", num_classes=3)
    assert (changed.norm, changed.num_classes, changed.blocks, changed.init) == ("batch", 3, LENET.blocks, "he")
    assert (LENET.norm, LENET.num_classes) == ("none", 10)
    assert LENET.change() == LENET
    normal = LENET.change(init="normal", init_std=0.1)
    assert normal.change(init="he") == LENET, "init_std goes when init='normal' does"
    assert normal.change(num_classes=3).init_std == 0.1
    with pytest.raises(ValueError, match=r"blocks\[1\]\.pool: only 1×1 of the 3×3 image"):
        VGG_SMALL["VGG (1,1)"].change(image_size=3)


def test_scaled_multiplies_every_width_but_the_classes():
    small = VGG["C"].scaled(1 / 8)
    assert [conv.out_channels for conv in small.convs] == [8] * 2 + [16] * 2 + [32] * 3 + [64] * 6
    assert small.head == Head((512, 512), dropout=0.5, pool_size=7) and small.num_classes == 1000
    assert [conv.kernel_size for conv in small.convs] == [conv.kernel_size for conv in VGG["C"].convs]
    assert VGG["A-LRN"].scaled(1 / 8).convs[0] == Conv(8, norm="lrn")
    for preset in PRESETS:
        assert preset.architecture.scaled(1) == preset.architecture
        assert preset.architecture.scaled(2).scaled(0.5) == preset.architecture
        least = preset.architecture.scaled(1e-9)
        assert {conv.out_channels for conv in least.convs} == {1} and set(least.head.hidden) <= {1}
    assert [conv.out_channels for conv in LENET.scaled(1.25).convs] == [8, 20]  # 7.5 and 20


def test_scaled_keeps_groups_possible():
    grouped = Architecture((Block((Conv(96), Conv(252, groups=2), Conv(384, groups=3), Conv(60)), None),))
    for factor in (1 / 100, 1 / 32, 1 / 7, 0.3, 1.7):
        scaled = grouped.scaled(factor)
        assert build(scaled, device="meta")(torch.empty(1, 1, 28, 28, device="meta")).shape == (1, 10)
        for conv, before in zip(scaled.convs, grouped.convs, strict=True):
            assert conv.groups == before.groups and abs(conv.out_channels - before.out_channels * factor) <= 6


def test_who_asks_for_a_network_that_is_not_there_is_told_those_that_are():
    with pytest.raises(KeyError, match=r"there is no '16' here: take one of 'A', 'A-LRN', 'B', 'C', 'D', 'E'"):
        VGG["16"]
    with pytest.raises(KeyError, match=r"there is no 3 here: take one of 'VGG \(1,1\)', "):
        VGG_SMALL[3]
    assert "16" not in VGG and VGG.get("16") is None


# --- the VGG table ----------------------------------------------------------------------------------------------------

CONVS_PER_BLOCK = {
    "A": [1, 1, 2, 2, 2],
    "A-LRN": [1, 1, 2, 2, 2],
    "B": [2, 2, 2, 2, 2],
    "C": [2, 2, 3, 3, 3],
    "D": [2, 2, 3, 3, 3],
    "E": [2, 2, 4, 4, 4],
}


def test_the_vgg_table_is_the_papers():
    assert list(VGG) == list(CONVS_PER_BLOCK)
    for name, architecture in VGG.items():
        assert [len(block.convs) for block in architecture.blocks] == CONVS_PER_BLOCK[name]
        for b, (block, width) in enumerate(zip(architecture.blocks, (64, 128, 256, 512, 512), strict=True)):
            assert block.pool == Pool("max", 2, 2)
            for c, conv in enumerate(block.convs):
                kernel = 1 if name == "C" and b >= 2 and c == 2 else 3
                norm = "lrn" if name == "A-LRN" and (b, c) == (0, 0) else None
                assert conv == Conv(width, kernel, stride=1, padding=kernel // 2, norm=norm), (name, b, c)
        assert architecture.head == Head((4096, 4096), dropout=0.5, pool_size=7)
        assert architecture.input_shape == (3, 224, 224) and architecture.num_classes == 1000
        assert (architecture.norm, architecture.activation) == ("none", "relu")


def test_the_shorthand_makes_vggs():
    made = vgg_like((1, 2), (8, 16), kernel_size=(5, 3), norm="batch", image_size=32, num_classes=3)
    assert made == Architecture(
        (Block((Conv(8, 5),)), Block((Conv(16), Conv(16)))),
        Head((128,)),
        norm="batch",
        init="he",
        image_size=32,
        num_classes=3,
    )
    assert vgg_like((1, 1), (8, 16), kernel_size=5) == vgg_like([1, 1], [8, 16], kernel_size=[5, 5])
    assert vgg_like((1,), (8,), init="xavier").init == "xavier"
    assert vgg_like((1,), (8,), head=Head()).head == Head()


@pytest.mark.parametrize(
    ("value", "expected"), [("a b", "'a b'"), ("x" * 100, "'" + "x" * 78 + "…"), ([1] * 40, "[" + "1, " * 26 + "…")]
)
def test_an_error_shows_what_it_found_on_one_line(value, expected):
    assert checks.shown(value) == expected and len(expected) <= 80
    assert "\n" not in checks.shown(build(LENET)) and checks.shown(build(LENET)).startswith("Sequential( (features)")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(5), "5, numpy's int64"),
        (np.float32(0.5), "0.5, numpy's float32"),
        (np.float64(1.5), "1.5"),
        (np.array(5), "array(5)"),
        (np.array([5, 6]), "array([5, 6])"),
    ],
)
def test_numbers_of_numpys_are_shown_as_plain_numbers(value, expected):
    assert checks.shown(value) == expected


def test_who_gives_a_number_of_numpys_is_told_what_to_do_about_it():
    with pytest.raises(ValueError) as caught:
        Conv(np.int64(8))
    assert str(caught.value) == f"out_channels {WHOLE}, got 8, numpy's int64: take int(8)"
    for no_use in (np.int64(0), np.int64(-3), np.array([5, 6]), torch.tensor(5.5), torch.zeros(5000)):
        with pytest.raises(ValueError) as caught:
            Conv(no_use)
        assert "take int" not in str(caught.value) and len(str(caught.value)) < 160
    with pytest.raises(ValueError, match=r"got tensor\(8\): take int\(8\)$"):
        Conv(torch.tensor(8))
    with pytest.raises(ValueError, match=r"dropout must be a share from 0 up to, not including, 1, got 1\.5$"):
        Head(dropout=np.float64(1.5))
    with pytest.raises(ValueError, match="seen must be True or False, got True, numpy's bool"):
        checks.truth("seen", np.True_)
