"""What test_browser.py puts into a notebook: an explorer with one of each thing that can go wrong in a front end."""

import asyncio
import time

from utils.plots.sheet import Sheet
from utils.plots.style import COLOURS
from utils.widgets.parts import Drawing, Explorer, button, choice_slider, guarded, label, row, slider, start

LONGEST = 60  # seconds of work, unless it is stopped


class Small(Explorer):
    """Two sliders and the drawing that follows them; work that can be stopped; a button that fails."""

    def __init__(self):
        super().__init__()
        self.blocks, self.kernel = slider(2, 1, 5, "blocks"), choice_slider((1, 3, 5, 7), 3, "kernel")
        for control in (self.blocks, self.kernel):
            control.observe(self._changed, "value")
        self.drawing, self.state = Drawing(self.sheet()), label("nothing is done")
        self.is_stopped = False
        buttons = (button("work", self._work), button("■ stop", self._stop), button("fail", self._fail))
        self.show(row(self.blocks, self.kernel), self.drawing, row(*buttons), self.state)

    def sheet(self):
        number, kernel = self.blocks.value, self.kernel.value
        sheet = Sheet(400, 60, "blocks", f"{number} blocks")
        for block in range(number):
            sheet.box(10 + 40 * block, 10, 30, 30, COLOURS["convolution"])
        sheet.text(10, 55, f"{number} blocks, {kernel}×{kernel}")
        return sheet

    @guarded
    def _changed(self, change):
        self.drawing.draw(self.sheet())
        self.say()

    @guarded
    def _fail(self, pressed):
        raise OSError("the disk is full")

    @guarded
    def _stop(self, pressed):
        self.is_stopped = True

    @guarded
    def _work(self, pressed):
        self.is_stopped = False
        self.task = start(self._busy())

    async def _busy(self):
        """As training is: in slices of a tenth of a second, between which the kernel hears what is pressed."""
        begun, slices = time.monotonic(), 0
        while not self.is_stopped and time.monotonic() - begun < LONGEST:
            until = time.monotonic() + 0.1
            while time.monotonic() < until:
                pass
            slices += 1
            self.state.value = f"slice {slices}"
            await asyncio.sleep(0.005)
        self.state.value = "stopped" if self.is_stopped else "finished: nobody stopped it"
