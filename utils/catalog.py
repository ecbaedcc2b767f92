"""The experiments of the lessons, as data: what is asked, which arms answer it, how each is trained, with which seeds.

`make experiments NAME=curve` runs one as it stands here; the lessons run smaller copies of them. What is measured is
filed under the architecture, recipe and seed: a change here means that its reference has to be measured anew.

Learning rates are chosen on the validation images, each arm's for itself: tools/tune.py, 2 to 5 epochs, rates a factor
of 2 to 5 apart, until a higher one was no better or the network was lost. The one that is chosen is the best that was
tried, or a lower one within 0.1 points of it; results/reference/<device>/rates.csv has them all. One seed did for most,
three where the best two were close: where two are nearly as good, other seeds might have chosen the other. An
experiment that trains for longer keeps the rates that were chosen so. Where it was done otherwise, that stands beside
the experiment. All but those that say so end at a rate of 0 (one-cycle): more epochs would be another training, not the
same one for longer.
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
from utils.editing import for_fashion_mnist
from utils.experiments import Arm, Experiment
from utils.training import Recipe

THREE_SEEDS = (0, 1, 2)
FIVE_SEEDS = (0, 1, 2, 3, 4)

# --- 01, LeNet ------------------------------------------------------------------------------------------------------

LENET_STEP_BY_STEP = Experiment(
    name="lenet",
    question="ReLU, max-pooling, He's initialisation: what does each change in the book's LeNet?",
    arms=(
        Arm(LENET_BOOK, Recipe(epochs=5, lr=2.0), "the book's"),
        Arm(LENET_BOOK.change(blocks=LENET.blocks), Recipe(epochs=5, lr=1.0), "max pooling for average"),
        Arm(LENET_BOOK.change(activation="relu"), Recipe(epochs=5, lr=0.2), "ReLU for sigmoid"),
        Arm(LENET.change(init="xavier"), Recipe(epochs=5, lr=0.1), "max pooling and ReLU"),
        Arm(LENET, Recipe(epochs=5, lr=0.1), "and He's initialisation: today's"),
    ),
    seeds=THREE_SEEDS,
)

# --- 02, AlexNet ----------------------------------------------------------------------------------------------------


# Figure 1 of the paper: no regularisation, and a rate that doesn't change, for each the one with which it learns
# fastest. The paper has no batch norm. Without it sigmoids in a row learn nothing here, at no rate from 0.005 to 0.5;
# so all three once more with it.
def _unregularised(**changes: str) -> Architecture:
    return ALEXNET_SMALL.change(head=replace(ALEXNET_SMALL.head, dropout=0.0), **changes)


def _at_a_constant(lr: float) -> Recipe:
    return Recipe(epochs=5, lr=lr, schedule="constant", weight_decay=0.0)


ALEXNET_ACTIVATION = Experiment(
    name="alexnet_activation",
    question="Does a small AlexNet learn faster with ReLU than with tanh or sigmoid, each at its own rate?",
    arms=(
        Arm(_unregularised(), _at_a_constant(0.02), "ReLU"),
        Arm(_unregularised(activation="tanh", init="xavier"), _at_a_constant(0.02), "tanh"),
        Arm(_unregularised(activation="sigmoid", init="xavier"), _at_a_constant(0.1), "sigmoid"),
        Arm(_unregularised(norm="batch"), _at_a_constant(0.05), "ReLU + BN"),
        Arm(_unregularised(norm="batch", activation="tanh", init="xavier"), _at_a_constant(0.02), "tanh + BN"),
        Arm(_unregularised(norm="batch", activation="sigmoid", init="xavier"), _at_a_constant(0.02), "sigmoid + BN"),
        # At a constant rate this one is judged badly: batch norm's averages lag behind weights that keep moving. The
        # rate is its twin's, so that the schedule is all that differs.
        Arm(
            _unregularised(norm="batch", activation="sigmoid", init="xavier"),
            replace(_at_a_constant(0.02), schedule="one-cycle"),
            "sigmoid + BN, the rate decays",
        ),
    ),
    seeds=THREE_SEEDS,
)

ALEXNET_DROPOUT = Experiment(
    name="alexnet_dropout",
    question="Do dropout and augmentation close the gap between training and test images?",
    arms=(
        Arm(_unregularised(), Recipe(epochs=20, lr=0.05), "plain"),
        Arm(ALEXNET_SMALL, Recipe(epochs=20, lr=0.05), "dropout"),
        Arm(_unregularised(), Recipe(epochs=20, lr=0.05, augment="flip+shift"), "augmentation"),
        Arm(ALEXNET_SMALL, Recipe(epochs=20, lr=0.05, augment="flip+shift"), "both"),
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


_FRAMED = ALEXNET_SMALL.change(image_size=30, norm="batch")
ALEXNET_EXTRAS = Experiment(
    name="alexnet_extras",
    question="What do overlapping pooling and local response normalisation add, and can five seeds tell?",
    # Of 28×28 pixels, windows that overlap leave smaller maps (14, 6, 2) than those side by side (14, 7, 3). Of 30×30,
    # the same images in a black frame, both leave the same: 15, 7, 3. Without batch norm some of these learn nothing.
    arms=(
        Arm(ALEXNET_SMALL, Recipe(epochs=5, lr=0.05), "overlapping pooling"),
        Arm(_with_plain_pooling(ALEXNET_SMALL), Recipe(epochs=5, lr=0.1), "pooling side by side"),
        Arm(_with_lrn(ALEXNET_SMALL), Recipe(epochs=5, lr=0.05), "overlapping pooling and LRN"),
        Arm(_FRAMED, Recipe(epochs=5, lr=0.2), "overlapping, 30×30, BN"),
        Arm(_with_plain_pooling(_FRAMED), Recipe(epochs=5, lr=0.2), "side by side, 30×30, BN"),
    ),
    seeds=FIVE_SEEDS,
)

# --- 03, VGG blocks -------------------------------------------------------------------------------------------------

_POOLED = Head(hidden=(), pool_size=1)  # so that no dense layer has a say


def _stack(num_convs: int, kernel_size: int, channels: tuple[int, int] = (16, 32)) -> Architecture:
    """Two blocks: `num_convs` convolutions of `kernel_size` in each, with batch norm, and nothing dense but the end."""
    return vgg_like((num_convs,) * 2, channels, kernel_size=kernel_size, norm="batch", head=_POOLED)


def _linear_pairs(norm: str, channels: tuple[int, int] = (16, 32)) -> Architecture:
    """Two 3×3 a block with no ReLU between them: without batch norm too they are one 5×5 in two parts."""
    blocks = tuple(Block((Conv(c, 3, norm=norm, activation="identity"), Conv(c, 3))) for c in channels)
    return Architecture(blocks, _POOLED, norm="batch", init="he")


KERNELS = Experiment(
    name="kernels",
    question="One large kernel, or several 3×3: at an equal receptive field, equal parameters, equal arithmetic?",
    arms=(
        Arm(_stack(1, 5), Recipe(epochs=5, lr=0.4), "one 5×5"),
        Arm(_stack(2, 3), Recipe(epochs=5, lr=0.4), "two 3×3"),
        Arm(_linear_pairs("none"), Recipe(epochs=5, lr=0.4), "two 3×3, nothing between"),
        Arm(_linear_pairs("batch"), Recipe(epochs=5, lr=0.4), "two 3×3, BN and no ReLU between"),
        Arm(_stack(1, 5, (18, 36)), Recipe(epochs=5, lr=0.4), "one 5×5, weights of two 3×3"),
        Arm(_stack(1, 5, (21, 42)), Recipe(epochs=5, lr=0.4), "one 5×5, MACs of two 3×3"),
        Arm(_stack(1, 7), Recipe(epochs=5, lr=0.4), "one 7×7"),
        Arm(_stack(3, 3), Recipe(epochs=5, lr=0.2), "three 3×3"),
        Arm(_stack(1, 13), Recipe(epochs=5, lr=0.8), "one 13×13"),
        Arm(_stack(6, 3), Recipe(epochs=5, lr=0.2), "six 3×3"),
    ),
    seeds=THREE_SEEDS,
)

# Five epochs are no plateau. Two of the pairs, and the one without the ReLU, for twenty.
_LASTING = ("one 5×5", "two 3×3", "two 3×3, BN and no ReLU between", "one 7×7", "three 3×3")
KERNELS_LONGER = replace(
    KERNELS,
    name="kernels_longer",
    question="Trained for four times as long: are several 3×3 still ahead of one large kernel?",
    arms=tuple(arm for arm in KERNELS.arms if arm.label in _LASTING),
).change(epochs=20)

# 8.24, 8.31 and 8.13 million multiply-accumulates for one image. Rates as for five epochs.
DEPTH_OR_CHANNELS = Experiment(
    name="depth_or_channels",
    question="At equal arithmetic: more layers, or more channels?",
    arms=(
        Arm(_stack(3, 3, (16, 32)), Recipe(epochs=20, lr=0.2), "six layers, 16 and 32 channels"),
        Arm(_stack(2, 3, (22, 42)), Recipe(epochs=20, lr=0.4), "four layers, 22 and 42 channels"),
        Arm(_stack(1, 3, (47, 94)), Recipe(epochs=20, lr=0.4), "two layers, 47 and 94 channels"),
    ),
    seeds=THREE_SEEDS,
)

# --- 04, the VGG family ---------------------------------------------------------------------------------------------


def _eighth(name: str) -> Architecture:
    return for_fashion_mnist(VGG[name], 1 / 8)


FAMILY = Experiment(
    name="family",
    question="From A to E: does depth help at an eighth of the width?",
    arms=tuple(Arm(_eighth(name).change(norm="batch"), Recipe(epochs=10, lr=0.2), name) for name in "ABCDE"),
    seeds=THREE_SEEDS,
)


def _headed(head: Head) -> Architecture:
    """Three blocks of two convolutions with batch norm, and this head."""
    return vgg_like((2, 2, 2), (16, 32, 64), norm="batch", head=head)


_DEEP = _eighth("E")
# The rates are chosen to tell something, not to be the best.
STUCK = Experiment(
    name="stuck",
    question="When is a deep VGG stuck at ln 10, and what sets it free?",
    arms=(
        Arm(_DEEP.change(init="default"), Recipe(epochs=2, lr=0.05), "torch's default"),
        Arm(_DEEP.change(init="default"), Recipe(epochs=2, lr=0.005), "torch's default, rate ÷ 10"),
        Arm(_DEEP.change(init="normal", init_std=0.01), Recipe(epochs=2, lr=0.05), "N(0, 0.01²)"),
        Arm(_DEEP.change(init="default", norm="batch"), Recipe(epochs=2, lr=0.05), "torch's default + BN"),
        Arm(_DEEP, Recipe(epochs=2, lr=0.05), "He"),
        Arm(_DEEP, Recipe(epochs=2, lr=0.01), "He, rate ÷ 5"),
        Arm(_DEEP.change(norm="batch"), Recipe(epochs=2, lr=0.05), "He + BN"),
        Arm(_DEEP.change(init="normal", init_std=0.1), Recipe(epochs=2, lr=0.01), "N(0, 0.1²), rate ÷ 5"),
    ),
    seeds=THREE_SEEDS,
    evaluate_on="validation",
)

HEADS = Experiment(
    name="heads",
    question="What do a VGG's dense layers buy, against global average pooling?",
    arms=(
        Arm(_headed(Head(hidden=(512, 512), dropout=0.5)), Recipe(epochs=5, lr=0.2), "512-512, dropout"),
        Arm(_headed(Head(hidden=(512, 512))), Recipe(epochs=5, lr=0.4), "512-512"),
        Arm(_headed(Head(hidden=(128,))), Recipe(epochs=5, lr=0.2), "128"),
        Arm(_headed(_POOLED), Recipe(epochs=5, lr=0.2), "global average pooling"),
    ),
    seeds=THREE_SEEDS,
)

# --- 05, throughput against accuracy --------------------------------------------------------------------------------

CURVE = Experiment(
    name="curve",
    question="What does accuracy cost in throughput, from LeNet to small VGGs?",
    arms=(
        Arm(LENET_BOOK, Recipe(epochs=2, lr=1.0)),
        Arm(LENET, Recipe(epochs=2, lr=0.1)),
        Arm(ALEXNET_SMALL, Recipe(epochs=2, lr=0.05)),
        Arm(VGG_SMALL["VGG (1,1)"], Recipe(epochs=2, lr=0.1)),
        Arm(VGG_SMALL["VGG (1,1,1)"], Recipe(epochs=2, lr=0.1)),
        Arm(VGG_SMALL["VGG (2,2)"], Recipe(epochs=2, lr=0.1)),
        Arm(VGG_SMALL["VGG (2,2,2) + BN"], Recipe(epochs=2, lr=0.2)),
        Arm(VGG_SMALL["VGG-11 ⅛ + BN"], Recipe(epochs=2, lr=0.2)),
    ),
    seeds=THREE_SEEDS,
)
# The same, for whoever chooses one of them.
CURVE_TO_CHOOSE_BY = replace(
    CURVE,
    name="curve_validation",
    question="The same on validation images: which one would you choose?",
    evaluate_on="validation",
)

# --- all of them ----------------------------------------------------------------------------------------------------

BY_LESSON: dict[str, tuple[Experiment, ...]] = {
    "01": (LENET_STEP_BY_STEP,),
    "02": (ALEXNET_ACTIVATION, ALEXNET_DROPOUT, ALEXNET_EXTRAS),
    "03": (KERNELS, KERNELS_LONGER, DEPTH_OR_CHANNELS),
    "04": (FAMILY, STUCK, HEADS),
    "05": (CURVE, CURVE_TO_CHOOSE_BY),
}
EXPERIMENTS: dict[str, Experiment] = {e.name: e for experiments in BY_LESSON.values() for e in experiments}
