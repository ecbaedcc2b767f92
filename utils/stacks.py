"""Convolutions worked out on paper: a window that slides over an image, and small kernels stacked beside a large one.

Whole numbers give it all: where windows stand and what none of them reaches; what a stack sees, weighs and computes.
The tests hold every number against torch. What a formula can't give is how long both take: that is measured.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import nn

from utils.architectures import Conv
from utils.blocks import vgg_block
from utils.checks import whole
from utils.throughput import Throughput, inference_throughput, merged
from utils.words import counted, duration, percent

NUMBERS = ("no", "one", "two", "three", "four", "five", "six")

# --- a window that slides ---------------------------------------------------------------------------------------------


class WindowDoesNotFit(ValueError):
    """There is no room for a window. The message is for who writes code; `why`, without names, for who turns knobs."""

    def __init__(self, message: str, *, why: str) -> None:
        super().__init__(message)
        self.why = why


@dataclass(frozen=True)
class Sliding:
    """A window of `kernel_size` pixels on a row of `size` pixels, `padding` zeros at either end, moved by `stride`.

    Images and windows are square here, so rows and columns are alike. Pixels are counted from 0, as Python does; the
    padding is what lies below 0 and above size − 1. Raises WindowDoesNotFit (a ValueError) if it doesn't fit once.
    """

    size: int
    kernel_size: int
    stride: int = 1
    padding: int = 0

    def __post_init__(self) -> None:
        for name, least in (("size", 1), ("kernel_size", 1), ("stride", 1), ("padding", 0)):
            whole(name, getattr(self, name), least)
        if self.count < 1:
            padded = self.size + 2 * self.padding
            padding = math.ceil((self.kernel_size - self.size) / 2)
            size, side = self.kernel_size - 2 * self.padding, self.kernel_size
            raise WindowDoesNotFit(
                f"kernel_size is {side}, and there are only {padded}×{padded} pixels to look at (size {self.size}, "
                f"padding {self.padding}): take a kernel_size of at most {padded}, a padding of at least {padding}, or "
                f"a size of at least {size}",
                why=f"a window of {side}×{side} has no room on {padded}×{padded} pixels, the padding counted. Take a "
                f"kernel of at most {padded}, a padding of at least {padding}, or a size of at least {size}",
            )

    @property
    def count(self) -> int:
        """How many times the window fits: the output's side."""
        return Conv(1, self.kernel_size, self.stride, self.padding).size_after(self.size)

    @property
    def steps(self) -> float:
        """The quotient in the formula, before it is rounded down: how many steps there is room for."""
        return (self.size + 2 * self.padding - self.kernel_size) / self.stride

    @property
    def starts(self) -> tuple[int, ...]:
        """The first pixel of each window; below 0 it lies in the padding."""
        return tuple(range(-self.padding, -self.padding + self.count * self.stride, self.stride))

    @property
    def sticking_out(self) -> int | None:
        """Where the next window would begin, if pixels or padding are left over for it that are too few; else None."""
        begin, end = self.starts[-1] + self.stride, self.size + self.padding
        is_left_over = self.starts[-1] + self.kernel_size < end
        return begin if is_left_over and begin < end else None

    @property
    def beyond(self) -> tuple[int, ...]:
        """The pixels behind the last window: the floor in the formula has dropped them."""
        return tuple(range(max(0, self.starts[-1] + self.kernel_size), self.size))

    @property
    def between(self) -> tuple[int, ...]:
        """The pixels between windows: there are some where the stride is larger than the kernel."""
        reached = {pixel for start in self.starts for pixel in range(start, start + self.kernel_size)}
        return tuple(sorted({*range(self.size)} - reached - {*self.beyond}))

    @property
    def num_unreached(self) -> int:
        """How many pixels of the size × size image no window covers."""
        reached = self.size - len(self.beyond) - len(self.between)
        return self.size**2 - reached**2

    def formula_with(self, mark: Callable[[str, int], str]) -> str:
        """The lesson's formula with the numbers put in, and what comes of it: ⌊(n + 2p − k) / s⌋ + 1.

        mark: how a number is written, given its letter: n, p, k or s.
        """
        n, p, k, s = map(mark, "npks", (self.size, self.padding, self.kernel_size, self.stride))
        return f"⌊({n} + 2·{p} − {k}) / {s}⌋ + 1 = ⌊{self.steps:.4g}⌋ + 1 = {self.count}"

    @property
    def formula(self) -> str:
        return self.formula_with(lambda letter, number: f"{number}")

    @property
    def num_blind(self) -> int:
        """How many windows look at padding alone: there are some where it is as wide as the kernel, or wider."""
        return sum(start + self.kernel_size <= 0 or start >= self.size for start in self.starts)

    def in_words(self) -> str:
        """What falls off the edge, or between windows, and why."""
        lines = []
        if self.beyond:
            lost = (
                "row and the last column are" if len(self.beyond) == 1 else f"{len(self.beyond)} rows and columns are"
            )
            lines.append(f"The last {lost} never looked at: no further window fits.")
        elif self.sticking_out is not None:
            left = self.size + self.padding - self.starts[-1] - self.kernel_size
            lines.append(f"Left over at the end is padding alone ({left}): no pixel of the input is lost.")
        if self.between:
            lost = "one row and one column"
            if (number := len(self.between)) > 1:
                lost = f"{number} of the rows and as many columns"
            lines.append(
                f"Between windows, {lost} are never looked at: the stride, {self.stride}, is larger than the kernel, "
                f"{self.kernel_size}."
            )
        if self.num_unreached:
            have = "has" if self.num_unreached == 1 else "have"
            of_all = f"{self.num_unreached:,} of {counted(self.size**2, 'pixel')}"
            lines.append(f"{of_all} ({percent(self.num_unreached / self.size**2)}) {have} no say.")
        if self.num_blind:
            look = "looks" if self.num_blind == 1 else "look"
            of_all = f"{self.num_blind} of {counted(self.count, 'window')}"
            lines.append(f"{of_all} across {look} at padding alone: take less padding.")
        return " ".join(lines) or "Every pixel is looked at, and the last window ends at the edge."


# --- a stack of kernels -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stack:
    """`num_convs` convolutions with square kernels, a ReLU behind each: C_in → C_out channels, then C_out → C_out.

    With stride 1 and padding that keeps the map's size, so the kernel is odd. Biases aren't counted: Simonyan &
    Zisserman, section 2.3, arXiv 1409.1556.
    """

    kernel_size: int
    num_convs: int = 1

    def __post_init__(self) -> None:
        whole("kernel_size", self.kernel_size, least=1)
        whole("num_convs", self.num_convs, least=1)
        if self.kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size must be odd, to keep the map's size, got {self.kernel_size}: take {self.kernel_size - 1} "
                f"or {self.kernel_size + 1}"
            )

    @property
    def label(self) -> str:
        """`one 5×5`, `two 3×3`."""
        number = NUMBERS[self.num_convs] if self.num_convs < len(NUMBERS) else f"{self.num_convs}"
        return f"{number} {self.kernel_size}×{self.kernel_size}"

    @property
    def fields(self) -> tuple[int, ...]:
        """The side, in pixels, of what the last convolution sees, the last two, …, all of them: k, 2k − 1, 3k − 2, …"""
        return tuple(1 + n * (self.kernel_size - 1) for n in range(1, self.num_convs + 1))

    @property
    def receptive_field(self) -> int:
        """The side, in pixels, of the square that one number behind the stack depends on."""
        return self.fields[-1]

    @property
    def num_relus(self) -> int:
        return self.num_convs

    def weights(self, in_channels: int, out_channels: int) -> int:
        """k²·C_in·C_out for the first convolution, and k²·C_out² for each further one."""
        return self.kernel_size**2 * out_channels * (in_channels + (self.num_convs - 1) * out_channels)

    def macs(self, in_channels: int, out_channels: int, side: int) -> int:
        """Multiply-accumulates for one map of side × side: each weight once at every position, padding included."""
        return side**2 * self.weights(in_channels, out_channels)

    def layers(self, in_channels: int, out_channels: int) -> list[nn.Module]:
        """The stack itself, (N, in_channels, H, W) → (N, out_channels, H, W): VGG's block without its pooling."""
        return vgg_block(self.num_convs, in_channels, out_channels, kernel_size=self.kernel_size)[:-1]


def as_far_as(kernel_size: int, large: Stack) -> Stack:
    """The least stack of such kernels that sees at least as far as `large`. ValueError if 1×1 kernels can't."""
    if kernel_size == 1 and large.receptive_field > 1:
        raise ValueError(
            f"1×1 kernels see one pixel, however many there are, and {large.label} sees "
            f"{large.receptive_field}×{large.receptive_field}: take 3×3"
        )
    return Stack(kernel_size, max(1, math.ceil((large.receptive_field - 1) / max(1, kernel_size - 1))))


def weights_ratio(stack: Stack, large: Stack, channels_ratio: float) -> float:
    """Weights of `stack` / weights of `large`, for channels_ratio = C_in / C_out; of MACs it is the same."""

    def weights_of(one: Stack) -> float:  # over C_out²
        return one.kernel_size**2 * (channels_ratio + one.num_convs - 1)

    return weights_of(stack) / weights_of(large)


def break_even(stack: Stack, large: Stack) -> Fraction | None:
    """The C_in/C_out at which both have equally many weights; None if there is none, or any will do.

    With kernels k and n of them in the stack, K and one in `large`: k²·(r + n − 1) = K²·r, so
    r = k²·(n − 1) / (K² − k²).
    """
    per_ratio = large.kernel_size**2 - stack.kernel_size**2
    if per_ratio == 0:
        return None
    further = stack.kernel_size**2 * (stack.num_convs - 1) - large.kernel_size**2 * (large.num_convs - 1)
    ratio = Fraction(further, per_ratio)
    return ratio if ratio > 0 else None


def which_is_cheaper(stack: Stack, large: Stack) -> str:
    """In words: for which channels `stack` has fewer weights than `large`."""
    if stack == large:
        return f"Both are {large.label}."
    even = break_even(stack, large)
    have = "has" if stack.num_convs == 1 else "have"
    who = f"{stack.label[0].upper()}{stack.label[1:]}"
    if even is None:
        more = "fewer" if weights_ratio(stack, large, 1.0) < 1 else "more"
        return f"{who} {have} {more} weights than {large.label}, whatever the channels."
    side = "above" if stack.kernel_size < large.kernel_size else "below"
    return f"{who} {have} fewer weights than {large.label} where C_in/C_out is {side} {even}."


def verdict(stack: Stack, large: Stack, in_channels: int, out_channels: int) -> str:
    """The same, and on which side of the break-even these channels are."""
    words = which_is_cheaper(stack, large)
    if (even := break_even(stack, large)) is None:
        return words
    here = Fraction(in_channels, out_channels)
    if here == even:
        return f"{words} Here it is just that: both have equally many."
    return f"{words} Here it is {in_channels}/{out_channels} = {float(here):.3g}."


# --- how long they take -----------------------------------------------------------------------------------------------

LONGEST = 0.06  # seconds that one image may take in both together: then all of it is done in a second or two
MOST_WEIGHTS = 2**25  # of both: more take a while only to be made, and read
LITTLE = 2**24  # MACs that no device takes long for
# Of a batch, at most: MACs of both together, and numbers in a map. A GPU with less to do waits for its next order.
AT_ONCE_ON_CPU, AT_ONCE = (2**30, 2**21), (2**38, 2**28)
ROUNDS, SECONDS = 5, 0.02  # in turn, so that what else the machine does meets both
ENOUGH = 1.0  # seconds, after which no further round begins


@dataclass(frozen=True)
class Timing:
    """How fast a stack and a large kernel were, one after the other in turn, on the same input."""

    stack: Throughput
    large: Throughput

    @property
    def ratio(self) -> float:
        """The stack's time / the large kernel's."""
        return self.large.images_per_s / self.stack.images_per_s


def time_both(
    stack: Stack,
    large: Stack,
    in_channels: int,
    out_channels: int,
    side: int,
    *,
    device: torch.device | str = "cpu",
    dtype: str = "auto",
) -> Timing:
    """Images a second through both, by `inference_throughput`, in rounds. It takes a second or two at most.

    Raises ValueError, before anything takes long, if they are too large for that.
    """
    if (weights := sum(one.weights(in_channels, out_channels) for one in (stack, large))) > MOST_WEIGHTS:
        raise ValueError(
            f"both together have {weights:,} weights, and more than {MOST_WEIGHTS:,} aren't measured here, so that you "
            f"needn't wait: take fewer channels or smaller kernels"
        )
    begin = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        nets = [nn.Sequential(*one.layers(in_channels, out_channels)) for one in (stack, large)]

    def measure(batch_size: int, side: int, seconds: float) -> list[Throughput]:
        options = {"batch_size": batch_size, "dtype": dtype, "device": device, "repeats": 1, "seconds": seconds}
        return [inference_throughput(net, (in_channels, side, side), **options) for net in nets]

    macs = sum(one.macs(in_channels, out_channels, side) for one in (stack, large))
    one_image = _seconds_of_one(measure, side, macs)
    most_macs, most_numbers = AT_ONCE_ON_CPU if torch.device(device).type == "cpu" else AT_ONCE
    # One image alone is slow for its work, so what a batch takes is guessed too high: that limit is a wide one.
    limits = most_macs / macs, most_numbers / (max(in_channels, out_channels) * side**2), 4 * LONGEST / one_image
    batch_size = 2 ** int(math.log2(max(1, min(256, *limits))))
    rounds: list[list[Throughput]] = []
    while len(rounds) < 2 or (len(rounds) < ROUNDS and time.perf_counter() - begin < ENOUGH):
        rounds.append(measure(batch_size, side, SECONDS))
    return Timing(*map(merged, zip(*rounds, strict=True)))


def _seconds_of_one(measure: Callable[[int, int, float], Sequence[Throughput]], side: int, macs: int) -> float:
    """Seconds of one image of side × side, with so many MACs, through all. Smaller ones go first, each of twice the
    side of the one before, so that ValueError is raised before anything takes long."""
    sides = [side >> halvings for halvings in range(side.bit_length())]  # the largest first
    for tried in reversed([side, *(less for less in sides[1:] if macs * (less / side) ** 2 > LITTLE)]):
        seconds = sum(1 / found.images_per_s for found in measure(1, tried, 0))
        if seconds * min(2, side / tried) ** 2 > LONGEST:  # what the next one takes
            raise ValueError(
                f"one map of {tried}×{tried} takes {duration(seconds)} in both together, and yours is {side}×{side}: "
                f"what takes so long isn't measured here, so that you needn't wait. Take fewer channels, a smaller "
                f"side or smaller kernels"
            )
    return seconds
