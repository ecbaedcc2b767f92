"""Train the network that is set: a button, a live curve, the time left, and a ■ that works.

Training in a button's callback would block the kernel: no message gets through, not even a press of ■. So the trial
runs as an asyncio task, in slices of a tenth of a second, and between them the kernel does what else there is to do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from html import escape
from typing import Any, ClassVar

import torch
from ipywidgets import HTML, HBox, Layout, VBox

from utils.architectures import Architecture, DoesNotFit
from utils.checks import is_number
from utils.data import FashionMNIST
from utils.experiments import UnfitForData
from utils.faults import TrainingError, on_screen
from utils.kept import NotKept, short_name
from utils.plots.live import live_curve
from utils.plots.style import COLOURS
from utils.results import Record
from utils.trials import BATCH, Trial, suggested_rate
from utils.widgets.parts import (
    Drawing,
    Steady,
    button,
    choice_buttons,
    choice_slider,
    fill,
    guarded,
    heading,
    hinted,
    label,
    row,
    said,
    start,
)
from utils.words import counted, percent

TIMES = {"10 s": 10.0, "30 s": 30.0, "2 min": 120.0}
RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
SLICE = 0.1  # seconds of work between two pauses
PAUSE = 0.005  # seconds in which the kernel takes its messages
DRAW_EVERY = 0.3  # seconds
WORDS = {"image_size": "image size", "in_channels": "input channels", "num_classes": "classes"}  # on a button


INTERRUPTED = "you interrupted it"
BEGIN_ANEW = "Interrupted: press Train to begin anew."


class _CannotGoOn(Exception):
    """What a student's network or machine can cause, in words."""


class Trainer(Steady, VBox):
    """Trains what `network()` gives when the button is pressed, and hands the finished trial's record to `on_trial`.

    network: raises DoesNotFit if what is set can't be built. change_network: called with fields of the architecture,
    where others are needed for it to be trained.
    say_error: called with what nobody foresaw, before it is raised. One network is trained at a time in a kernel.
    """

    at_work: ClassVar[Trainer | None] = None

    def __init__(
        self,
        data: FashionMNIST,
        network: Callable[[], Architecture],
        change_network: Callable[..., None],
        on_trial: Callable[[Record], None],
        say_error: Callable[[BaseException], None],
        *,
        seed: int = 0,
    ) -> None:
        self.data, self.network, self.change_network = data, network, change_network
        self.on_trial, self.say_error = on_trial, say_error
        self.seed = seed
        self.trial: Trial | None = None
        self.task: asyncio.Task | None = None
        self._suggested: float | None = None
        self.time = choice_buttons(tuple(TIMES), "10 s")
        self.rate = choice_slider(RATES, 0.1, "learning rate", width="260px")
        self.rate.observe(self._show_suggestion, names="value")
        self.suggestion = label("")
        self.train_button = button("Train", self._press, look="primary")
        self.stop_button = button("■ stop", lambda _: self.stop())
        self.stop_button.disabled = True
        hinted(self.stop_button, "train no further, and judge what was learnt; the notebook’s own ■ stops cells alone")
        self.progress, self.message, self.curve = HTML(), HTML(), Drawing()
        self.fixes = HBox()
        super().__init__(
            (
                heading("Train it within"),
                row(self.time, self.train_button, self.stop_button),
                row(self.rate, self.suggestion),
                self.progress,
                self.curve,
                self.message,
                self.fixes,
            ),
            layout=Layout(width="100%"),
        )
        if Trainer.at_work is not None:  # most likely of a cell that was run before: nobody sees it any more
            Trainer.at_work.stop("another explorer was opened")

    # --- the network was changed ------------------------------------------------------------------------------------

    def follow(self, architecture: Architecture) -> None:
        """Set a rate that suits the network, unless the student has chosen another than what was suggested."""
        is_own = self._suggested is not None and self.rate.value != self._suggested
        self._suggested = suggested_rate(architecture)
        if not is_own:
            self.rate.value = self._suggested
        self._show_suggestion()
        self.forget()

    def forget(self) -> None:
        """What was wrong with the last network, or was to be done with it, is no longer said."""
        if self._is_passing and not self.is_training:
            self.say()
            fill(self.fixes, ())

    @guarded
    def _show_suggestion(self, _: Any = None) -> None:
        is_own = self._suggested is not None and self.rate.value != self._suggested
        words = f"suggested for this network: {self._suggested:g}" if is_own else ""
        self.suggestion.value = label(words, quiet=True).value

    # --- start and stop -----------------------------------------------------------------------------------------------

    @property
    def is_training(self) -> bool:
        return Trainer.at_work is self

    def train(self, seconds: float | None = None, *, lr: float | None = None) -> asyncio.Task | None:
        """As the button does. seconds, lr: those that are set, unless you name others.

        In a notebook it goes on beside what else you do, and `await` of what this gives waits for it; in a script it
        ends before this returns. Raises nothing for a network that can't be trained: it says so.
        """
        if _clinic_is_at_work():
            self.say("A network is being trained in the clinic: wait until it is done.", is_wrong=True)
            return None
        if Trainer.at_work is not None:
            ours = Trainer.at_work is self
            words = "A network is being trained" if ours else "A network is being trained in another explorer"
            self.say(f"{words}: wait until it is done, or press ■{'' if ours else ' there'}.", is_wrong=True)
            return self.task if ours else None
        if lr is not None and (not is_number(lr) or lr <= 0):
            raise ValueError(f"lr must be a number above 0, got {lr!r}")
        self.say()
        fill(self.fixes, ())
        seconds = TIMES[self.time.value] if seconds is None else seconds
        lr = self.rate.value if lr is None else lr
        try:
            self.trial = Trial(self.network(), self.data, seconds=seconds, lr=lr, seed=self.seed)
        except DoesNotFit as error:
            self.say(f"What is set can’t be built: {error.why}. Mend that first, then press Train.", is_wrong=True)
            return None
        except UnfitForData as error:
            self._offer(error)
            return None
        Trainer.at_work = self
        self.stop_button.disabled = False
        self.task = None
        try:
            self.task = start(self._run(self.trial))
        finally:
            if self.task is None:  # it ran to its end
                self._ended()
            else:
                self.task.add_done_callback(self._ended)
        return self.task

    @guarded
    def _press(self, _: Any) -> None:
        self.train()

    @guarded
    def stop(self, reason: str = "you stopped it") -> None:
        """As ■ does: train no further; what has been learnt so far is judged, and becomes a point."""
        if self.trial is not None and self.is_training:
            self.trial.stop(reason)
            self.stop_button.disabled = True

    def _offer(self, error: UnfitForData) -> None:
        """A button for what would make the network fit the images."""
        self.say(f"It can’t be trained on these images: {error.why}. What would help:", is_wrong=True)
        words = " and ".join(f"{WORDS.get(name, name)} {value}" for name, value in error.changes.items())
        fill(self.fixes, [button(words, lambda _: self._fix(error.changes))])

    @guarded
    def _fix(self, changes: dict[str, int]) -> None:
        fill(self.fixes, ())
        self.change_network(**changes)
        self.say("Now press Train.", is_passing=True)

    # --- while it trains ----------------------------------------------------------------------------------------------

    async def _run(self, trial: Trial) -> None:
        """The trial, and whatever may end it. A cell that awaits it and is interrupted cancels it: that is a stop like
        any other, and raised when what was learnt has been judged and kept."""
        self._cancelled = None
        try:
            await self._in_slices(trial)
            self._show(trial)
            if trial.record is None:
                self.say("Stopped before its first step: there is nothing to judge.")
            else:
                self._tell(trial)
                self._hand_over(trial.record)
        except _CannotGoOn as error:
            self.say(f"{trial.architecture.label}: {error}".rstrip(".") + ".", is_wrong=True)
        except KeyboardInterrupt:  # raised further, it would end the kernel
            self.say(BEGIN_ANEW, is_wrong=True)
        except asyncio.CancelledError:  # a second one, while the network was being judged
            self.say(BEGIN_ANEW, is_wrong=True)
            raise
        except Exception as error:
            self.say_error(error)
            raise
        if self._cancelled is not None:
            raise self._cancelled.with_traceback(None)  # where it was interrupted says nothing

    _cancelled: asyncio.CancelledError | None = None

    def _ended(self, _: Any = None) -> None:
        """However it ended; a task that is cancelled before it has begun too."""
        if Trainer.at_work is self:
            Trainer.at_work = None
        self.stop_button.disabled, self.progress.value = True, ""

    async def _in_slices(self, trial: Trial) -> None:
        self._show(trial)
        begun = drawn = time.perf_counter()
        steps = iter(trial)
        while self._goes_on(steps):
            now = time.perf_counter()
            if now - drawn > DRAW_EVERY:
                self._show(trial)
                drawn = time.perf_counter()
            if now - begun > SLICE:
                try:
                    await asyncio.sleep(PAUSE)
                except asyncio.CancelledError as error:
                    if self._cancelled is not None:
                        raise
                    self._cancelled = error
                    trial.stop(INTERRUPTED)
                begun = time.perf_counter()

    @staticmethod
    def _goes_on(steps: Iterator[str]) -> bool:
        """Take a step. What a student's network or machine can cause is told from what is a fault of ours."""
        try:
            return next(steps, None) is not None
        except (ValueError, TrainingError) as error:
            raise _CannotGoOn(on_screen(f"{error}")) from error

    def _hand_over(self, record: Record) -> None:
        try:
            self.on_trial(record)
        except NotKept as error:
            self.message.value += said(f"It is shown, and couldn’t be kept: {error}.", is_wrong=True)

    def _show(self, trial: Trial) -> None:
        """The curve as far as it has grown, and the time that is left."""
        self.progress.value = _bar(trial)
        if trial.plan is not None:
            self.curve.draw(
                live_curve(
                    trial.losses, trial.looks, total_steps=trial.plan.steps, batch_size=BATCH,
                    num_classes=len(self.data.classes), title=f"Loss of {trial.architecture.label}",
                )
            )  # fmt: skip

    def _tell(self, trial: Trial) -> None:
        record, plan = trial.record, trial.plan
        how_often = f"{plan.epochs} times" if plan.epochs > 1 else "once"
        training = f"{counted(record['steps'], 'step')} over {counted(plan.num_images, 'image')}, {how_often}"
        if record["stopped"]:
            training = f"{counted(record['steps'] * BATCH, 'image')} (stopped {record['stopped']})"
        words = (
            f"{percent(record['accuracy'], 1)} of the {len(self.data.validation):,} validation images are right, after "
            f"{training}; {record['throughput']['images_per_s']:,.0f} images/s in inference."
        )
        if record["warning"]:
            words += f" Look out: {on_screen(record['warning'])}."
        self.say(words)
        self.message.value += (
            "<details><summary>The same from code</summary><pre style='white-space:pre-wrap;font-size:12px'>"
            f"{escape(self.code(trial))}</pre></details>"
        )

    @staticmethod
    def code(trial: Trial) -> str:
        """Lines that train the same network with `fit`, on the same `data`, to the same weights."""
        recipe = trial.recipe
        cut = ""
        if trial.record and trial.record["stopped"]:
            cut = f"  # and stop it after step {trial.record['steps']:,}"
        threads = trial.record["threads"] if trial.record else trial.threads
        own_threads = ""
        if threads != (usual := torch.get_num_threads()):
            own_threads = f"torch.set_num_threads({threads})  # the fastest for it here; afterwards {usual} again\n"
        return (
            "import torch\n"
            "from utils.architectures import Architecture\n"
            "from utils.models import build\n"
            "from utils.training import Recipe, fit\n\n"
            f"{own_threads}torch.manual_seed({trial.seed})\n"
            f"net = build(Architecture.from_json({trial.architecture.to_json()!r}))\n"
            f"recipe = Recipe(epochs={recipe.epochs}, batch_size={recipe.batch_size}, lr={recipe.lr!r})\n"
            f"fit(net, data.train.take({trial.plan.num_images}), recipe, seed={trial.seed}){cut}"
        )

    def say(self, words: str = "", *, is_wrong: bool = False, is_passing: bool = False) -> None:
        """Write a line below the curve. What is wrong, or `is_passing`, is true of this network alone."""
        self.message.value, self._is_passing = said(words, is_wrong=is_wrong), is_wrong or is_passing

    _is_passing = False


def _clinic_is_at_work() -> bool:
    """Two trainings at a time would spoil the timings by which a trial is planned."""
    from utils.widgets.clinic import TrainingClinic

    return TrainingClinic.at_work is not None


def _bar(trial: Trial) -> str:
    """A bar, and what is going on: `training VGG (2,2), 4 s left`."""
    left = f", {max(trial.seconds_left, 0):.0f} s left" if trial.phase in ("getting ready", "training") else ""
    words = escape(f"{trial.phase}: {short_name(trial.architecture.label)}{left}")
    return (
        f'<div style="max-width:400px;font-size:13px;line-height:1.4" role="status">'
        f'<div style="height:8px;background:{COLOURS["grid"]};border-radius:4px">'
        f'<div style="height:8px;width:{100 * trial.share:.1f}%;background:{COLOURS["convolution"]};border-radius:4px">'
        f"</div></div>{words}</div>"
    )
