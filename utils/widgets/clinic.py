"""The clinic: how a deep VGG starts, what its vital signs say at once, and whether twenty steps move its loss."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from ipywidgets import HBox
from torch import nn

from utils.architectures import VGG, Architecture
from utils.checks import of_kind
from utils.data import FashionMNIST
from utils.editing import for_fashion_mnist
from utils.faults import TrainingError, loss_is_no_number, on_screen
from utils.models import build
from utils.plots.clinic import first_losses_sheet, vital_signs_sheet
from utils.plots.sheet import Sheet, below
from utils.randomness import undisturbed
from utils.training import Recipe, Step, train
from utils.vitals import Diagnosis, VitalSigns, diagnosis, first_losses, vital_signs
from utils.widgets.parts import (
    ACTIVATION_WORDS,
    INIT_WORDS,
    NARROW,
    SIDE_BY_SIDE,
    WIDE,
    Drawing,
    Explorer,
    Setting,
    button,
    by_words,
    check_offered,
    choice_buttons,
    choice_slider,
    column,
    guarded,
    heading,
    label,
    named,
    row,
    slider,
    start,
    tick,
)
from utils.widgets.trainer import RATES, Trainer
from utils.words import counted

NUM_STEPS = 20
NUM_IMAGES = 64  # on which the vital signs are taken: 50 ms on two cores
NETWORKS = {name: for_fashion_mnist(VGG[name]) for name in "ABDE"}
SIGMAS = (0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
PAUSE = 0.005  # seconds between two steps, in which the kernel takes its messages
INTERRUPTED = "Interrupted: press the button to begin anew."


def training_clinic(data: FashionMNIST) -> TrainingClinic:
    """A deep VGG that learns nothing, and the knobs to heal it. As a cell's last line.

    data: whose training images it sees. It starts as lesson 04's patient 1: VGG-19 at an eighth of its channels with
    torch's default initialisation. `clinic.init = "he"`, `clinic.lr = 0.01` turn knobs from code.
    """
    return TrainingClinic(data)


class _Settings(NamedTuple):
    """All that decides what a training finds."""

    architecture: Architecture
    seed: int
    lr: float


@dataclass
class _Run:
    """A training of some steps, and with which settings."""

    title: str
    settings: _Settings
    losses: list[float] = field(default_factory=list)
    is_stopped: bool = False


class _Untrainable(Exception):
    """What is set can't be trained or examined; the message says why."""


class TrainingClinic(Explorer):
    """See `training_clinic`. What can be set: each moves its control, and the other way round.

    network       "A", "B", "D" or "E": VGG-11, -13, -16, -19 at an eighth of their channels, for 32×32 images
    num_blocks    of its blocks, the first 1 to 5
    init          "default", "he", "xavier" or "normal", then with the standard deviation init_std
    activation    "relu", "tanh", "sigmoid", "gelu" or "identity"
    batch_norm    True or False
    seed          of the weights and of the images' order, 0 to 9
    lr            the rate of the training steps: SGD with momentum 0.9, batches of 128, float32, a constant rate
    with_after    whether the vital signs after the training are drawn too
    architecture  all of it but seed and rate

    What it found: `before` and `after` training (VitalSigns; None where there was none), `losses`; `diagnosis` and
    `verdict` in words. `at_work` is the one that trains, or None: one network is trained at a time in a kernel.
    """

    at_work: ClassVar[TrainingClinic | None] = None
    network, num_blocks, init, init_std, activation = Setting(), Setting(), Setting(), Setting(), Setting()
    batch_norm, seed, lr, with_after = Setting(), Setting(), Setting(), Setting()

    def __init__(self, data: FashionMNIST) -> None:
        super().__init__()
        of_kind("data", data, FashionMNIST, "load_fashion_mnist()")
        self.data = data
        self.images = data.train.batch(slice(0, NUM_IMAGES), image_size=32)
        self.before: VitalSigns | None = None
        self.after: VitalSigns | None = None
        self.diagnosis: Diagnosis | None = None
        self.verdict: Diagnosis | None = None
        self._run: _Run | None = None
        self._earlier: _Run | None = None
        self.task: asyncio.Task | None = None
        self._vitals, self._losses = Drawing(), Drawing()
        self._make_controls()
        self._lay_out()
        self._now = self._settings()
        self._examine()

    def _make_controls(self) -> None:
        self.controls = {
            "network": choice_buttons(tuple(NETWORKS), "E"),
            "num_blocks": slider(5, 1, 5, "blocks", width="180px"),
            "init": choice_buttons(by_words(INIT_WORDS), "default"),
            "init_std": choice_slider(SIGMAS, 0.01, "σ", width="240px"),
            "activation": choice_buttons(by_words(ACTIVATION_WORDS), "relu"),
            "batch_norm": tick(False, "batch norm", width="120px"),
            "seed": slider(0, 0, 9, "seed", width="180px"),
            "lr": choice_slider(RATES, 0.1, "learning rate", width="280px"),
            "with_after": tick(True, "show the vital signs after it too"),
        }
        for name, control in self.controls.items():
            control.observe(self._redraw if name == "with_after" else self._change, names="value")
        self.train_button = button(f"train {NUM_STEPS} steps", lambda _: self.train(), look="primary")
        self.stop_button = button("■ stop", lambda _: self.stop())
        self.stop_button.disabled = True

    def _lay_out(self) -> None:
        set_ = self.controls
        self._depth = label("")
        patient = column(
            heading("The patient"),
            row(named("VGG", set_["network"]), self._depth),
            row(set_["num_blocks"]),
            label("initialisation"),
            set_["init"],
            set_["init_std"],
            label("activation"),
            set_["activation"],
            row(set_["batch_norm"], set_["seed"]),
            heading("The treatment"),
            set_["lr"],
            row(self.train_button, self.stop_button),
            set_["with_after"],
            self.message,
            width=NARROW,
        )
        signs = column(self._vitals, self._losses, width=WIDE, grow=True)
        self.show(HBox((patient, signs), layout=SIDE_BY_SIDE))

    # --- from code --------------------------------------------------------------------------------------------------

    @property
    def architecture(self) -> Architecture:
        """What is examined: a VGG at an eighth, changed as the controls stand. Set it, and they move."""
        chosen = NETWORKS[self.network]
        return chosen.change(
            blocks=chosen.blocks[: self.num_blocks],
            norm="batch" if self.batch_norm else "none",
            activation=self.activation,
            init=self.init,
            init_std=self.init_std if self.init == "normal" else None,
        )

    @architecture.setter
    def architecture(self, architecture: Architecture) -> None:
        of_kind("architecture", architecture, Architecture, 'for_fashion_mnist(VGG["E"])')
        settings = _settings_for(architecture)
        for name, value in settings.items():
            check_offered(name, value, self.controls[name])
        with self._settling():
            for name, value in settings.items():
                self.controls[name].value = value
        self._change({})

    @property
    def losses(self) -> list[float]:
        """Of the last training with the settings as they are, one a step."""
        return list(self._run.losses) if self._run else []

    @property
    def is_training(self) -> bool:
        return TrainingClinic.at_work is self

    @guarded
    def train(self) -> asyncio.Task | None:
        """As the button does. In a notebook `await` of what this gives waits for it; a script waits anyway."""
        if refusal := self._refusal():
            self.say(refusal, is_wrong=True)
            return None
        self.say()
        if self._run and self._run.settings != self._settings():
            self._earlier = self._run
        self._run = _Run(self._treatment(), self._settings())
        self.after = self.verdict = None
        TrainingClinic.at_work = self
        self.train_button.disabled, self.stop_button.disabled = True, False
        run = self._run
        self.task = start(self._train(run))
        if self.task is not None:
            self.task.add_done_callback(lambda _: self._see_to_end(run))
        return self.task

    def _refusal(self) -> str:
        """Why nothing can be trained now; "" if it can."""
        if self.is_training:
            return "It is being trained already: wait a moment, or press ■."
        if TrainingClinic.at_work is None and Trainer.at_work is None:
            return ""
        return "A network is being trained in another explorer: wait until it is done, or press ■ there."

    @guarded
    def stop(self) -> None:
        """As ■ does: take no further step; what was learnt so far is looked at."""
        if self.is_training:
            self._run.is_stopped = True
            self.stop_button.disabled = True

    def sheet(self) -> Sheet:
        """The vital signs; below them the losses, if there are any."""
        has_losses = self._run is not None or self._earlier is not None
        sheets = [self._vitals.drawn, self._losses.drawn] if has_losses else [self._vitals.drawn]
        return below(sheets, title=self._vitals.drawn.title)

    # --- a knob was turned ------------------------------------------------------------------------------------------

    @guarded
    def _change(self, change: dict[str, Any]) -> None:
        if self._is_settling:  # what several controls say together counts, once
            return
        before, self._now = self._now, self._settings()
        if self._now == before:  # σ, where weights aren't drawn from it
            return
        self.say()
        if self.is_training:
            self._abandon()
        elif self._run:
            self._earlier, self._run = self._run, None
        self.after = self.verdict = None
        if self._now == before._replace(lr=self.lr):  # before the first step it makes no difference
            self._draw()
        else:
            self._examine()

    def _abandon(self) -> None:
        self._run.is_stopped, self._run = True, None
        self._end_training()
        self.say("What you changed is another network or rate than what was being trained: that training is stopped.")

    @guarded
    def _redraw(self, change: dict[str, Any]) -> None:
        self._draw()

    def _examine(self) -> None:
        """Take the vital signs of what is set. Where that fails it is said, and what was shown before stays."""
        self.controls["init_std"].disabled = self.init != "normal"
        self.before = None
        try:
            self.before = vital_signs(self._fresh(), *self.images)
        except ValueError as error:
            words = f"Its vital signs can’t be taken: {error}. Those of the last network stay on display."
            self.say(words, is_wrong=True)
        self._draw()

    def _fresh(self) -> nn.Module:
        """The network, its weights from `seed`, as `torch.manual_seed(seed); build(architecture)` draws them."""
        (net,) = undisturbed(map(build, [self.architecture]), seed=self.seed, device=self.data.train.device)
        return net

    # --- training ---------------------------------------------------------------------------------------------------

    def _steps(self, nets: list[nn.Module]) -> Iterator[Step]:
        """The steps of a fresh network's training; the network is put into `nets`. Nobody else's random numbers."""
        recipe = Recipe(
            epochs=NUM_STEPS,  # however few images there are
            lr=self.lr,
            schedule="constant",
            dtype="float32",  # as the vital signs
        )
        architecture, seed = self.architecture, self.seed

        def steps() -> Iterator[Step]:
            nets.append(build(architecture))
            yield from train(nets[0], self.data.train, recipe, seed=seed)

        return itertools.islice(undisturbed(steps(), seed=seed, device=self.data.train.device), NUM_STEPS)

    def _learn(self, run: _Run, nets: list[nn.Module]) -> Iterator[None]:
        """Take the steps, and note their losses. _Untrainable where that fails."""
        with _blamed_on_settings():
            for step in self._steps(nets):
                run.losses.append(float(step.loss))
                if not math.isfinite(run.losses[-1]):
                    raise loss_is_no_number(run.losses, NUM_STEPS, run.settings.lr, "float32", None, nets[0])
                yield

    async def _train(self, run: _Run) -> None:
        """The steps, and whatever may end them. Of one that was abandoned nothing is said."""
        try:
            await self._train_and_examine(run)
        except _Untrainable as error:
            self._complain(run, f"{error}.")
        except KeyboardInterrupt:  # the notebook's own ■; raised further, it would end the kernel
            self._complain(run, INTERRUPTED)
        except asyncio.CancelledError:  # the same ■, while a cell awaits the task
            self._complain(run, INTERRUPTED)
            raise
        except Exception as error:
            self.say_error(error)
            raise

    async def _train_and_examine(self, run: _Run) -> None:
        nets: list[nn.Module] = []
        try:
            for _ in self._learn(run, nets):
                self._draw_losses()
                await asyncio.sleep(PAUSE)
                if run.is_stopped:
                    break
            if self._run is run:
                with _blamed_on_settings():
                    self.after = vital_signs(nets[0], *self.images)
        finally:
            self._end(run)

    def _complain(self, run: _Run, words: str) -> None:
        if self._run is run:
            self.say(words, is_wrong=True)

    @guarded
    def _see_to_end(self, run: _Run) -> None:
        """Of a task that was cancelled before its first step nothing has run, not even its `finally`."""
        if self._run is run and self.is_training:
            self._end(run)
            self._complain(run, INTERRUPTED)

    def _end(self, run: _Run) -> None:
        if self._run is run:
            self._end_training()
            self.say()  # what was answered meanwhile, “wait a moment”, is no longer so
            self.verdict = first_losses(run.losses, len(self.data.classes))
            self._draw()

    def _end_training(self) -> None:
        TrainingClinic.at_work = None
        self.train_button.disabled, self.stop_button.disabled = False, True

    # --- what is shown ----------------------------------------------------------------------------------------------

    def _settings(self) -> _Settings:
        return _Settings(self.architecture, self.seed, self.lr)

    def _patient(self) -> str:
        """`VGG (2,2,4,4,4), He, ReLU, batch norm`."""
        convs = ",".join(str(len(block.convs)) for block in self.architecture.blocks)
        inits = INIT_WORDS | {"normal": f"N(0, {self.init_std:g}²)"}
        activation = ACTIVATION_WORDS[self.activation]
        activation = "no activation" if self.activation == "identity" else activation
        return ", ".join([f"VGG ({convs})", inits[self.init], activation] + ["batch norm"] * self.batch_norm)

    def _treatment(self) -> str:
        return f"{self.network}, {self._patient().partition('), ')[2]}, rate {self.lr:g}"

    def _draw(self) -> None:
        depth = self.architecture.weight_layers
        self._depth.value = label(f"= {depth} weight layers").value
        self.controls["with_after"].disabled = self.after is None
        if self.before is not None:
            self._draw_vitals(self.after if self.with_after else None)
        self._draw_losses()

    def _draw_vitals(self, after: VitalSigns | None) -> None:
        self.diagnosis = diagnosis(self.before) if after is None else diagnosis(after, self.before)
        steps = f"after {counted(len(self.losses), 'step')}"
        when = "before training" if after is None else steps
        seen_on = f"({when.capitalize()}, on {counted(self.before.num_images, 'image')}, seed {self.seed}.)"
        self._vitals.draw(
            vital_signs_sheet(
                self.before, after, title=self._patient(), after_what=steps, words=f"{self.diagnosis.words} {seen_on}"
            )
        )

    def _draw_losses(self) -> None:
        words = "" if self.is_training else "Does the loss leave chance? Train, and see."
        if self.verdict is not None:
            words = self.verdict.words
        self._losses.draw(
            first_losses_sheet(
                self.losses, self._earlier.losses if self._earlier else (), num_steps=NUM_STEPS,
                num_classes=len(self.data.classes), title=f"The first {NUM_STEPS} steps, rate {self.lr:g}",
                earlier_title=f"earlier: {self._earlier.title}" if self._earlier else "", words=words,
            )
        )  # fmt: skip


@contextmanager
def _blamed_on_settings() -> Iterator[None]:
    """What a student's settings can cause becomes _Untrainable; an error of ours, in a drawing, stays what it is."""
    try:
        yield
    except (ValueError, TrainingError) as error:
        raise _Untrainable(on_screen(f"{error}")) from error


def _settings_for(architecture: Architecture) -> dict[str, Any]:
    """How the controls stand for it. ValueError if they can't show it."""
    for name, whole in NETWORKS.items():
        for number in range(1, len(whole.blocks) + 1):
            own = {field: getattr(architecture, field) for field in ("norm", "activation", "init", "init_std")}
            if own["norm"] != "lrn" and whole.change(blocks=whole.blocks[:number], **own) == architecture:
                settings = {"network": name, "num_blocks": number, "batch_norm": own["norm"] == "batch"}
                settings |= {"init": own["init"], "activation": own["activation"]}
                return settings | ({"init_std": own["init_std"]} if own["init_std"] is not None else {})
    raise ValueError(
        f"architecture must be VGG's A, B, D or E at an eighth of its channels, or its first blocks, with or without "
        f"batch norm, got {architecture.label}: take for_fashion_mnist(VGG['E']).change(init='xavier') or the like, "
        f"from utils.editing"
    )
