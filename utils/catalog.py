"""The experiments of the lessons, as data: what is asked, which arms answer it, how each is trained, with which seeds.

`make experiments NAME=curve` runs one as it stands here; the lessons run smaller copies of them. What is measured is
filed under the architecture, recipe and seed: a change here means that its reference has to be measured anew.

A learning rate has to be chosen on the validation images, each arm's for itself (tools/tune.py). Where that has not
been done yet, it stands beside the experiment.
"""

from __future__ import annotations

from dataclasses import replace

from utils.architectures import (
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
from utils.experiments import Arm, Experiment
from utils.training import Recipe

THREE_SEEDS = (0, 1, 2)

# --- 01, LeNet ------------------------------------------------------------------------------------------------------

LENET_STEP_BY_STEP = Experiment(
    name="lenet",
    question="ReLU, max-pooling, He's initialisation: what does each change in the book's LeNet?",
    arms=(
        Arm(LENET_BOOK, Recipe(epochs=5, lr=2.0)),
        Arm(LENET_BOOK.change(blocks=LENET.blocks), Recipe(epochs=5, lr=1.0)),
        Arm(LENET_BOOK.change(activation="relu"), Recipe(epochs=5, lr=0.2)),
        Arm(LENET.change(init="xavier"), Recipe(epochs=5, lr=0.05)),
        Arm(LENET, Recipe(epochs=5, lr=0.1)),
    ),
    seeds=THREE_SEEDS,
)

# --- 02, AlexNet ----------------------------------------------------------------------------------------------------

ALEXNET_ACTIVATION = Experiment(  # rates not chosen yet
    name="alexnet_activation",
    question="Does a small AlexNet learn faster with ReLU than with tanh or sigmoid, each at its own rate?",
    arms=(
        Arm(ALEXNET_SMALL, Recipe(epochs=5, lr=0.05)),
        Arm(ALEXNET_SMALL.change(activation="tanh", init="xavier"), Recipe(epochs=5, lr=0.05)),
        Arm(ALEXNET_SMALL.change(activation="sigmoid", init="xavier"), Recipe(epochs=5, lr=0.1)),
    ),
    seeds=THREE_SEEDS,
)

_NO_DROPOUT = ALEXNET_SMALL.change(head=replace(ALEXNET_SMALL.head, dropout=0.0))
ALEXNET_DROPOUT = Experiment(  # rates not chosen yet
    name="alexnet_dropout",
    question="Do dropout and augmentation close the gap between training and test images?",
    arms=(
        Arm(ALEXNET_SMALL, Recipe(epochs=10, lr=0.05)),
        Arm(_NO_DROPOUT, Recipe(epochs=10, lr=0.05)),
        Arm(ALEXNET_SMALL, Recipe(epochs=10, lr=0.05, augment="flip+shift")),
        Arm(_NO_DROPOUT, Recipe(epochs=10, lr=0.05, augment="flip+shift")),
    ),
    seeds=THREE_SEEDS,
)


def _with_plain_pooling(architecture: Architecture) -> Architecture:
    """The same, but pooling windows that don't overlap: 2×2 where it has 3×3, both with stride 2."""
    return architecture.change(blocks=tuple(replace(b, pool=b.pool and Pool("max", 2, 2)) for b in architecture.blocks))


def _with_lrn(architecture: Architecture) -> Architecture:
    """The same, with local response normalisation after the first two convolutions, where the paper has it."""
    first, second, *others = architecture.blocks
    normed = (replace(b, convs=tuple(replace(c, norm="lrn") for c in b.convs)) for b in (first, second))
    return architecture.change(blocks=(*normed, *others))


ALEXNET_EXTRAS = Experiment(  # rates not chosen yet
    name="alexnet_extras",
    question="What do overlapping pooling and local response normalisation add, and can three seeds tell?",
    arms=(
        Arm(ALEXNET_SMALL, Recipe(epochs=5, lr=0.05)),
        Arm(_with_plain_pooling(ALEXNET_SMALL), Recipe(epochs=5, lr=0.05)),
        Arm(_with_lrn(ALEXNET_SMALL), Recipe(epochs=5, lr=0.05)),
    ),
    seeds=THREE_SEEDS,
)

# --- 03, VGG blocks -------------------------------------------------------------------------------------------------


def _stack(num_convs: int, kernel_size: int) -> Architecture:
    """Two blocks of 16 and 32 channels: `num_convs` convolutions of `kernel_size` in each, with batch norm."""
    return vgg_like((num_convs,) * 2, (16, 32), kernel_size=kernel_size, norm="batch")


KERNELS = Experiment(  # rates not chosen yet
    name="kernels",
    question="At an equal receptive field: one large kernel, or several 3×3?",
    arms=tuple(
        Arm(_stack(num_convs, kernel_size), Recipe(epochs=5, lr=0.1))
        for num_convs, kernel_size in ((1, 5), (2, 3), (1, 7), (3, 3), (1, 13), (6, 3))
    ),
    seeds=THREE_SEEDS,
)


def _linear_pairs(channels: tuple[int, ...]) -> Architecture:
    """Two 3×3 a block with nothing between them: they are one 5×5 in two parts."""
    between = {"norm": "none", "activation": "identity"}
    blocks = tuple(Block((Conv(c, 3, **between), Conv(c, 3))) for c in channels)
    return Architecture(blocks, Head(hidden=(128,)), norm="batch", init="he")


FACTORS = Experiment(  # rates not chosen yet
    name="factors",
    question="Two 3×3 instead of one 5×5: is it the factors, or the ReLU between them?",
    arms=(
        Arm(_stack(1, 5), Recipe(epochs=5, lr=0.1)),
        Arm(_linear_pairs((16, 32)), Recipe(epochs=5, lr=0.1)),
        Arm(_stack(2, 3), Recipe(epochs=5, lr=0.1)),
    ),
    seeds=THREE_SEEDS,
)

_POOLED = Head(hidden=(), pool_size=1)  # so that no dense layer has a say
# 8.24, 8.31 and 8.13 million multiply-accumulates for one image.
DEPTH_OR_CHANNELS = Experiment(  # rates not chosen yet
    name="depth_or_channels",
    question="At equal arithmetic: more layers, or more channels?",
    arms=tuple(
        Arm(vgg_like(num_convs, channels, norm="batch", head=_POOLED), Recipe(epochs=5, lr=0.1))
        for num_convs, channels in (((3, 3), (16, 32)), ((2, 2), (22, 42)), ((1, 1), (47, 94)))
    ),
    seeds=THREE_SEEDS,
)

# --- 04, the VGG family ---------------------------------------------------------------------------------------------


def _eighth(name: str) -> Architecture:
    """A network of VGG's Table 1 at an eighth of its channels, for 32×32 grey images and ten classes."""
    whole = VGG[name]
    head = Head(hidden=(128, 128))
    small = whole.change(head=head, in_channels=1, image_size=32, num_classes=10)
    return small.scaled(1 / 8).change(head=head)


FAMILY = Experiment(  # rates not chosen yet
    name="family",
    question="From A to E: does depth help at an eighth of the width?",
    arms=tuple(Arm(_eighth(name).change(norm="batch"), Recipe(epochs=5, lr=0.1)) for name in "ABCDE"),
    seeds=THREE_SEEDS,
)

STUCK = Experiment(
    name="stuck",
    question="When is a deep VGG stuck at ln 10, and what sets it free?",
    arms=(
        Arm(_eighth("E").change(init="default"), Recipe(epochs=2, lr=0.05)),
        Arm(_eighth("E").change(init="default"), Recipe(epochs=2, lr=0.01)),
        Arm(_eighth("E"), Recipe(epochs=2, lr=0.05)),
        Arm(_eighth("E"), Recipe(epochs=2, lr=0.01)),
        Arm(_eighth("E").change(init="default", norm="batch"), Recipe(epochs=2, lr=0.05)),
    ),
    seeds=THREE_SEEDS,
    evaluate_on="validation",
)

HEADS = Experiment(
    name="heads",
    question="What do a VGG's dense layers buy, against global average pooling?",
    arms=tuple(
        Arm(vgg_like((2, 2, 2), (16, 32, 64), norm="batch", head=head), Recipe(epochs=5, lr=0.2))
        for head in (Head(hidden=(512, 512), dropout=0.5), Head(hidden=(128,)), _POOLED)
    ),
    seeds=THREE_SEEDS,
)

# --- 05, throughput against accuracy --------------------------------------------------------------------------------

CURVE = Experiment(
    name="curve",
    question="What does accuracy cost in throughput, from LeNet to small VGGs?",
    arms=(
        Arm(LENET_BOOK, Recipe(epochs=2, lr=0.5)),
        Arm(LENET, Recipe(epochs=2, lr=0.05)),
        Arm(ALEXNET_SMALL, Recipe(epochs=2, lr=0.05)),
        Arm(VGG_SMALL["VGG (1,1)"], Recipe(epochs=2, lr=0.1)),
        Arm(VGG_SMALL["VGG (1,1,1)"], Recipe(epochs=2, lr=0.1)),
        Arm(VGG_SMALL["VGG (2,2)"], Recipe(epochs=2, lr=0.05)),
        Arm(VGG_SMALL["VGG (2,2,2) + BN"], Recipe(epochs=2, lr=0.1)),
        Arm(VGG_SMALL["VGG-11 ⅛ + BN"], Recipe(epochs=2, lr=0.1)),
    ),
    seeds=THREE_SEEDS,
)
# The same, for whoever chooses one of them.
CURVE_TO_CHOOSE_BY = replace(CURVE, name="curve_validation", evaluate_on="validation")

# --- all of them ----------------------------------------------------------------------------------------------------

BY_LESSON: dict[str, tuple[Experiment, ...]] = {
    "01": (LENET_STEP_BY_STEP,),
    "02": (ALEXNET_ACTIVATION, ALEXNET_DROPOUT, ALEXNET_EXTRAS),
    "03": (KERNELS, FACTORS, DEPTH_OR_CHANNELS),
    "04": (FAMILY, STUCK, HEADS),
    "05": (CURVE, CURVE_TO_CHOOSE_BY),
}
EXPERIMENTS: dict[str, Experiment] = {e.name: e for experiments in BY_LESSON.values() for e in experiments}
