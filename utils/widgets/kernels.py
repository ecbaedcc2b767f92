"""The kernel laboratory: one large kernel beside a stack of small ones. What they see, cost, and how long they take."""

from __future__ import annotations

from typing import Any

import torch
from ipywidgets import HBox

from utils.checks import of_kind
from utils.data import FashionMNIST, load_fashion_mnist
from utils.device import device_named
from utils.faults import OutOfMemory
from utils.plots.kernels import costs, short, what_they_see
from utils.plots.sheet import Sheet, below
from utils.stacks import Stack, Timing, as_far_as, time_both
from utils.widgets.parts import (
    NARROW,
    SIDE_BY_SIDE,
    WIDE,
    Drawing,
    Explorer,
    Setting,
    button,
    choice_buttons,
    choice_slider,
    column,
    guarded,
    heading,
    label,
    slider,
    tick,
)
from utils.words import counted

KERNELS = (1, 3, 5, 7, 9, 11, 13)
CHANNELS = (1, 2, 3, 4, 8, 9, 16, 32, 64, 128, 256, 512)
SIDES = (7, 14, 28, 32, 56, 112, 224)  # of Fashion-MNIST's maps and of ImageNet's, halved again and again
MOST_CONVS = 6  # six 3×3 see as far as one 13×13
IMAGE = 3  # of the validation images: the one in lesson 03


class KernelLaboratory(Explorer):
    """One k×k convolution, and several smaller ones, one after the other. See `kernel_laboratory`.

    kernel_size: of the large one.   stack_kernel_size, num_convs: of the stack.   in_channels, out_channels, side: of
    the maps that both are given.   same_field: as many in the stack as see as far as the large one.
    timing: what was measured for what is set now, or None.
    """

    kernel_size, stack_kernel_size, num_convs, same_field = Setting(), Setting(), Setting(), Setting()
    in_channels, out_channels, side = Setting(), Setting(), Setting()

    def __init__(self, data: FashionMNIST | None = None, device: torch.device | str | None = None) -> None:
        super().__init__()
        data = load_fashion_mnist(report=lambda line: None) if data is None else data
        of_kind("data", data, FashionMNIST, "load_fashion_mnist()")
        self._image = data.validation.pixels[IMAGE].cpu().numpy()  # (1, 28, 28)
        self.device = device_named(device)
        self.timing: Timing | None = None
        wide = {"width": "300px"}
        self.controls = {
            "kernel_size": choice_buttons(KERNELS, 5),
            "stack_kernel_size": choice_buttons(KERNELS, 3),
            "num_convs": slider(2, 1, MOST_CONVS, "how many", **wide),
            "same_field": tick(True, "as far as the large one"),
            "in_channels": choice_slider(CHANNELS, 16, "channels in", **wide),
            "out_channels": choice_slider(CHANNELS, 32, "channels out", **wide),
            "side": choice_slider(SIDES, 28, "map's side", **wide),
        }
        self.measure_button = button("measure both on this device", self._measure, look="primary")
        self.measured = label("")
        self.seen, self.costs = Drawing(), Drawing()
        self._lay_out()
        self._answer()
        for name in ("kernel_size", "stack_kernel_size", "same_field"):
            self.controls[name].observe(self._field_changed, names="value")
        self.controls["num_convs"].observe(self._number_changed, names="value")
        for name in ("in_channels", "out_channels", "side"):
            self.controls[name].observe(self._changed, names="value")

    def _lay_out(self) -> None:
        knobs = self.controls
        chosen = column(
            heading("One large kernel: k×k"), knobs["kernel_size"],
            heading("Several small ones: k×k"), knobs["stack_kernel_size"], knobs["num_convs"], knobs["same_field"],
            heading("The maps they are given"), knobs["in_channels"], knobs["out_channels"], knobs["side"],
            self.measure_button, self.measured, self.message, width=NARROW,
        )  # fmt: skip
        drawn = column(self.seen, self.costs, width=WIDE, grow=True)
        self.show(HBox((chosen, drawn), layout=SIDE_BY_SIDE))

    @property
    def large(self) -> Stack:
        return Stack(self.kernel_size)

    @property
    def stack(self) -> Stack:
        return Stack(self.stack_kernel_size, self.num_convs)

    def sheet(self) -> Sheet:
        return below([self.seen.drawn, self.costs.drawn], title=f"{self.large.label}, or {self.stack.label}?")

    # --- the controls' answers ------------------------------------------------------------------------------------

    @guarded
    def _changed(self, change: Any) -> None:
        self.say()
        self._answer()

    @guarded
    def _field_changed(self, change: Any) -> None:
        """A kernel or the tick: the stack follows, if it is to see as far."""
        self.say()
        if self.same_field:
            self._follow()
        self._answer()

    @guarded
    def _number_changed(self, change: Any) -> None:
        """Who sets the number by hand doesn't want it to follow."""
        self.say()
        if self.same_field and change["new"] != self._wanted():
            self.same_field = False
        self._answer()

    def _wanted(self) -> int | None:
        """How many it takes to see as far as the large one; None if no number does."""
        try:
            return as_far_as(self.stack_kernel_size, self.large).num_convs
        except ValueError:
            return None

    def _follow(self) -> None:
        try:
            wanted = as_far_as(self.stack_kernel_size, self.large)
        except ValueError as error:
            self.say(f"{error}.", is_wrong=True)
            return
        self.num_convs = wanted.num_convs
        if wanted.receptive_field != self.large.receptive_field:
            see = "sees" if wanted.num_convs == 1 else "see"
            field = f"{wanted.receptive_field}×{wanted.receptive_field}"
            self.say(
                f"No number of {self.stack_kernel_size}×{self.stack_kernel_size} sees just as far as "
                f"{self.large.label}: {wanted.label} {see} {field}, the next that is more.",
                is_wrong=True,
            )

    def _answer(self) -> None:
        """Draw what is set. What was measured was measured of something else."""
        self.timing, self.measured.value = None, ""
        self.seen.draw(what_they_see(self._image, self.large, self.stack))
        self._draw_costs()

    def _draw_costs(self) -> None:
        seconds = None
        if self.timing is not None:
            seconds = 1 / self.timing.large.images_per_s, 1 / self.timing.stack.images_per_s
        self.costs.draw(costs(self.large, self.stack, self.in_channels, self.out_channels, self.side, seconds))

    @guarded
    def _measure(self, pressed: Any) -> None:
        self.say()
        self.measured.value = label("measuring …", quiet=True).value
        try:
            self.timing = time_both(
                self.stack, self.large, self.in_channels, self.out_channels, self.side, device=self.device
            )
        except (ValueError, OutOfMemory) as error:
            self.timing, self.measured.value = None, ""
            self.say(f"Not measured: {error}.", is_wrong=True)
        else:
            macs = [one.macs(self.in_channels, self.out_channels, self.side) for one in (self.stack, self.large)]
            self.measured.value = label(timing_in_words(self.timing, self.stack, self.large, macs[0] / macs[1])).value
        self._draw_costs()


def timing_in_words(timing: Timing, stack: Stack, large: Stack, macs_ratio: float) -> str:
    """How long both take for an image, lowest and highest of the rounds, and the ratios of times and of MACs."""

    def took(one: Stack, found: Any) -> str:
        median, least, most = (short(1000 / rate) for rate in (found.images_per_s, found.high, found.low))
        return f"{one.label} {'takes' if one.num_convs == 1 else 'take'} {median} ms an image ({least} to {most})"

    measured = timing.large
    return (
        f"On {measured.device}, {counted(measured.batch_size, 'image')} at a time in {measured.dtype}, in "
        f"{counted(measured.repeats, 'round')}: "
        f"{took(large, timing.large)}, {took(stack, timing.stack)}. That is {timing.ratio:.2f} × the time, with "
        f"{macs_ratio:.2f} × the MACs."
    )


def kernel_laboratory(
    data: FashionMNIST | None = None, *, device: torch.device | str | None = None
) -> KernelLaboratory:
    """One large kernel, or several small ones? It starts with one 5×5 and two 3×3, from 16 to 32 channels.

    data: whose image is looked at; what `load_fashion_mnist` finds, if none is given. device: on which both are timed
    at a press of the button; the fastest that there is, unless you name one.
    """
    return KernelLaboratory(data, device)
