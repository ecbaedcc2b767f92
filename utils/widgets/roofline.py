"""The roofline explorer: which batch, which network, and what holds each of its layers up, memory or arithmetic."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from ipywidgets import HBox

from utils.architectures import PRESETS, Architecture
from utils.checks import of_kind
from utils.device import device_name, device_named
from utils.faults import OutOfMemory
from utils.models import build
from utils.plots.roofline import numbered
from utils.plots.roofline_sheet import roofline_sheet, shares_sheet
from utils.plots.sheet import Sheet, below
from utils.randomness import undisturbed
from utils.roofline import (
    Ceilings,
    LayerTimes,
    ceilings,
    layer_times,
    layer_work,
    seconds_to_measure,
    time_without_flops,
    why_slow,
)
from utils.widgets.parts import (
    NARROW,
    SIDE_BY_SIDE,
    WIDE,
    Drawing,
    Explorer,
    Setting,
    button,
    choice_slider,
    column,
    guarded,
    heading,
    menu,
    row,
)
from utils.words import counted

SMALL = {p.name: p.architecture for p in PRESETS if p.architecture.image_size <= 32}
START = "AlexNet small"
BATCHES = tuple(2**power for power in range(10))
ROUNDS = (7, 5, 3, 1)  # of timings, far apart: what holds the machine up for a moment then falls on no layer
LONGEST = 2.0  # seconds that a measurement may take: meanwhile the kernel answers nothing
TIMED = 0.7  # seconds for all timings, at least: what a single one of them lasts depends on how many there are


def roofline_explorer(
    roof: Ceilings | None = None, architecture: Architecture | None = None, *, batch_size: int = 1,
    device: torch.device | str | None = None,
) -> RooflineExplorer:  # fmt: skip
    """A network's layers under the roofline of this device, and a batch that grows. As a cell's last line.

    roof: what `ceilings(device)` measured; None: it is measured now, which takes a second or two. architecture None:
    the small AlexNet. It starts measured, if that takes less than two seconds.
    """
    explorer = RooflineExplorer(roof, architecture, batch_size=batch_size, device=device)
    explorer.measure()
    return explorer


class RooflineExplorer(Explorer):
    """See `roofline_explorer`.

    architecture  the network on display; set it to any that images of its size can be built for
    batch_size    a power of two, 1 to 512
    roof          the device's ceilings
    work          what each layer computes and moves for the batch: `utils.roofline.layer_work`
    times         what was measured for this network and batch (`LayerTimes`); None if it wasn't yet
    measure()     as the button does
    """

    batch_size = Setting()

    def __init__(
        self, roof: Ceilings | None = None, architecture: Architecture | None = None, *, batch_size: int = 1,
        device: torch.device | str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.device = device_named(device)
        if roof is not None:
            of_kind("roof", roof, Ceilings, "ceilings(device)")
        self.roof = ceilings(self.device) if roof is None else roof
        self._architecture = SMALL[START]
        self._work: dict[tuple[str, int, str], pd.DataFrame] = {}
        self._times: dict[tuple[str, int, str], LayerTimes] = {}
        self._roofline, self._shares = Drawing(), Drawing()
        self._menu = menu([(name, a) for name, a in SMALL.items()], SMALL[START], "network", width="240px")
        self.controls = {"batch_size": choice_slider(BATCHES, 1, "batch", width="280px")}
        self._menu.observe(self._choose, names="value")
        self.controls["batch_size"].observe(self._change, names="value")
        self.measure_button = button("measure", lambda _: self.measure(), look="primary")
        self.roof_button = button("measure the roof anew", lambda _: self.measure_roof())
        self._lay_out()
        self.architecture = SMALL[START] if architecture is None else architecture
        self.batch_size = batch_size

    def _lay_out(self) -> None:
        pictures = column(self._roofline, width=WIDE, grow=True), column(self._shares, width=NARROW)
        self.show(
            heading("How many images at a time?"),
            row(self._menu, self.controls["batch_size"], self.measure_button, self.roof_button),
            self.message,
            HBox(pictures, layout=SIDE_BY_SIDE),
        )

    # --- from code --------------------------------------------------------------------------------------------------

    @property
    def architecture(self) -> Architecture:
        """The network on display. One that the list lacks is added to it."""
        return self._architecture

    @architecture.setter
    def architecture(self, architecture: Architecture) -> None:
        of_kind("architecture", architecture, Architecture, "LENET or VGG['A']")
        offered = {a: name for name, a in SMALL.items()}
        with self._settling():
            if architecture not in offered:
                self._menu.options = [*((name, a) for a, name in offered.items()), (architecture.label, architecture)]
            self._menu.value = architecture
        self._architecture = architecture
        self.say()
        self._show()

    @property
    def work(self) -> pd.DataFrame:
        """What each layer computes and moves for the batch."""
        if self._key not in self._work:
            net = build(self.architecture, device="meta")
            self._work[self._key] = layer_work(
                net, batch_size=self.batch_size, dtype=self.roof.dtype, device=self.device
            )
        return self._work[self._key]

    @property
    def times(self) -> LayerTimes | None:
        """What was measured for this network and batch, under this roof's conditions; None if nothing was."""
        return self._times.get(self._key)

    @property
    def _key(self) -> tuple[str, int, str]:
        return self.architecture.digest, self.batch_size, self.roof.dtype

    @guarded
    def measure(self) -> None:
        """As the button does: time each layer for this batch. It says so where that would take too long."""
        self.say()
        if refusal := self._refusal():
            self.say(refusal, is_wrong=True)
            return
        try:
            (net,) = undisturbed(map(build, [self.architecture]), seed=0, device=self.device)
            self._times[self._key] = layer_times(
                net, batch_size=self.batch_size, dtype=self.roof.dtype, device=self.device, repeats=1,
                rounds=self._rounds(), seconds=self._least_seconds,
            )  # fmt: skip
        except OutOfMemory as error:
            self.say(f"{error}.", is_wrong=True)
            return
        self._show()

    @guarded
    def measure_roof(self) -> None:
        """As the button does: the device's ceilings anew, a second or two. What was timed before is forgotten."""
        self.say()
        self.roof = ceilings(self.device, self.roof.dtype)
        self._times.clear()
        self._show()

    def sheet(self) -> Sheet:
        """The roofline, and the layers' shares below it."""
        return below([self._roofline.drawn, self._shares.drawn], title=self._roofline.drawn.title)

    # --- a knob was turned ------------------------------------------------------------------------------------------

    @guarded
    def _choose(self, change: dict[str, Any]) -> None:
        if not self._is_settling:
            self._architecture = self._menu.value
            self._change(change)

    @guarded
    def _change(self, change: dict[str, Any]) -> None:
        self.say()
        self._show()

    # --- measuring --------------------------------------------------------------------------------------------------

    @property
    def _least_seconds(self) -> float:
        """Of one timing: short ones are repeated until they fill it."""
        return min(0.01, TIMED / (2 * ROUNDS[0] * (1 + len(self.work))))

    def _rounds(self) -> int:
        """As many as there is time for; 0 if there is none for a single one."""
        return next((rounds for rounds in ROUNDS if self._seconds_needed(rounds) <= LONGEST), 0)

    def _seconds_needed(self, rounds: int) -> float:
        return seconds_to_measure(self.work, self.roof, repeats=1, rounds=rounds, seconds=self._least_seconds)

    def _refusal(self) -> str:
        """Why nothing can be measured now, and what to do; "" if it can."""
        here = device_name(self.device), torch.get_num_threads()
        roofs = self.roof.device, self.roof.threads
        if here != roofs:
            here, roofs = (f"{name} with {counted(threads, 'thread')}" for name, threads in (here, roofs))
            return f"The roof was measured on {roofs}, and this is {here}: press “measure the roof anew” first."
        if self._rounds():
            return ""
        needed = self._seconds_needed(1)
        label, batch = self.architecture.label, self.batch_size
        to_do = "take a smaller batch" if batch > 1 else "take a smaller network"
        return (
            f"To time {label} with a batch of {batch} would take about {needed:.0f} s here, and meanwhile the notebook "
            f"answers nothing: {to_do}. The hollow marks need no measurement."
        )

    # --- what is shown ----------------------------------------------------------------------------------------------

    def _show(self) -> None:
        work, times = self.work, self.times
        batch = f"a batch of {self.batch_size}" if self.batch_size > 1 else "one image at a time"
        title = f"{self.architecture.label}, {batch}"
        why = why_slow(work, self.roof, batch_size=self.batch_size, names=numbered(work), times=times)
        more = "Press “measure” to see where the layers really are." if times is None else time_without_flops(times)
        self._roofline.draw(roofline_sheet(work, self.roof, times, title=title, notes=(why, more)))
        self._shares.draw(shares_sheet(work, self.roof, times))
