"""Training: a loop that is a generator of steps, `fit`, which drains it, and `evaluate`.

Nothing in the loop waits for the device: losses stay there, in one tensor, until someone wants to see them.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.checks import is_number, of_kind, one_of, share, shown, truth, whole
from utils.data import AUGMENTATIONS, SIDE
from utils.device import DTYPES, device_name, dtype_name, fast_format, resolve_dtype, synchronize
from utils.faults import (
    TOO_LARGE,
    OutOfMemory,
    check_not_lazy,
    check_weights,
    evaluation_is_no_number,
    first_line,
    free_memory,
    is_out_of_memory,
    largest_that_fits,
    layers_named,
    learnt_nothing,
    loss_is_no_number,
    memory_named,
    not_finite_among,
    not_finite_in,
    weights_are_no_numbers,
)
from utils.faults import TrainingError as TrainingError  # where those who train look for it
from utils.modes import keeping_modes
from utils.progress import progress_bar
from utils.words import counted

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("one-cycle", "cosine", "constant")


class Data(Protocol):
    """What the loop needs of its images: `utils.data.Images` is one."""

    labels: Tensor

    def __len__(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def batch(
        self, index: Tensor, *, image_size: int, augment: str, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class Recipe:
    """How to train: all that, with the architecture, the data and the seed, decides the result.

    lr              the highest learning rate: what "one-cycle" rises to and "cosine" starts from
    momentum        SGD's (Nesterov's form); AdamW keeps its betas
    dtype           what autocast computes in; "auto": bf16 or fp16 where that was measured to be faster
    channels_last   numbers lie in memory pixel by pixel, which is faster; on Apple's GPU they don't: see `fast_format`
    compile         torch.compile: minutes on a CPU before the first step, so only when asked for
    """

    epochs: int = 3
    batch_size: int = 128
    optimizer: str = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "one-cycle"
    augment: str = "none"
    label_smoothing: float = 0.0
    dtype: str = "auto"
    channels_last: bool = True
    compile: bool = False

    def __post_init__(self) -> None:
        whole("epochs", self.epochs, least=1)
        whole("batch_size", self.batch_size, least=1)
        one_of("optimizer", self.optimizer, OPTIMIZERS)
        one_of("schedule", self.schedule, SCHEDULES)
        one_of("augment", self.augment, AUGMENTATIONS)
        one_of("dtype", self.dtype, DTYPES)
        if not is_number(self.lr) or self.lr <= 0:
            raise ValueError(f"lr must be a number above 0, got {self.lr!r}")
        share("momentum", self.momentum)
        if not is_number(self.weight_decay) or self.weight_decay < 0:
            raise ValueError(f"weight_decay must be a number of at least 0, got {self.weight_decay!r}")
        share("label_smoothing", self.label_smoothing)
        truth("channels_last", self.channels_last)
        truth("compile", self.compile)


@dataclass(frozen=True)
class Step:
    """One step of the loop. `loss` is still on the device: reading it (`float(step.loss)`) waits for it."""

    number: int  # from 1
    total: int
    steps_per_epoch: int
    images: int  # seen so far
    loss: Tensor  # ()

    @property
    def ends_epoch(self) -> bool:
        return self.number % self.steps_per_epoch == 0


class StopTraining(Exception):
    """A callback raises this to end `fit` early, with what has been learnt so far."""


# --- the loop -------------------------------------------------------------------------------------------------------


def train(
    model: nn.Module, data: Data, recipe: Recipe, *, image_size: int | None = None, seed: int = 0
) -> Iterator[Step]:
    """Get `model` ready, where `data` is, and return the steps of its training: who iterates may watch, pause or stop.

    Each epoch sees the images in a new order; a last batch that isn't full is left out. The same seed gives the same
    order, augmentation and dropout. image_size None: what `build` made the model for, or 28 for a model of your own.
    Raises ValueError if there is nothing to train, nothing to train on, or the images have other channels;
    TrainingError if the weights are no numbers to begin with; OutOfMemory if they don't fit on the device.
    """
    image_size = check_images(model, data, image_size)
    of_kind("recipe", recipe, Recipe, "Recipe(epochs=2, lr=0.05)")
    whole("seed", seed, least=0)
    check_weights(model)
    torch.manual_seed(seed)  # dropout draws from the device's global generator
    prepare(model, data.device, recipe)
    return _steps(model, data, recipe, make_optimizer(model, recipe), image_size, seed)


def _steps(
    model: nn.Module, data: Data, recipe: Recipe, optimizer: torch.optim.Optimizer, image_size: int, seed: int
) -> Iterator[Step]:
    device, dtype = data.device, resolve_dtype(recipe.dtype, data.device)
    steps_per_epoch, total = count_steps(data, recipe)
    schedule = make_schedule(optimizer, recipe, total)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)  # fp16 underflows without it
    augment = torch.Generator(device).manual_seed(seed)
    seen = 0

    for number, index in enumerate(shuffled(data, recipe, seed), start=1):
        images, labels = data.batch(index, image_size=image_size, augment=recipe.augment, generator=augment)
        if recipe.channels_last:
            images = images.to(memory_format=fast_format(device))
        if not model.training:  # someone evaluated in between
            model.train()
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32), layers_named(model):
            scores = model(images)
            if number == 1:
                check_scores(scores, labels, data)
                check_trainable(scores)
            loss = F.cross_entropy(scores, labels, label_smoothing=recipe.label_smoothing)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
        seen += len(index)
        yield Step(number, total, steps_per_epoch, seen, loss.detach())


def shuffled(data: Data, recipe: Recipe, seed: int) -> Iterator[Tensor]:
    """For each step the numbers of its images, (B,) int64, where `data` is: another order each epoch."""
    shuffle = torch.Generator().manual_seed(seed)
    steps_per_epoch, _ = count_steps(data, recipe)
    for _ in range(recipe.epochs):
        order = torch.randperm(len(data), generator=shuffle).to(data.device)
        for i in range(steps_per_epoch):
            yield order[i * recipe.batch_size : (i + 1) * recipe.batch_size]


def check_images(model: nn.Module, data: Data, image_size: int | None, name: str = "data") -> int:
    """The size at which `model` sees the images. ValueError if it isn't one, or `data` isn't images that it takes.

    name: what the caller calls `data`.
    """
    of_kind("model", model, nn.Module, "build(LENET)")
    check_not_lazy(model)
    if image_size is not None:
        whole("image_size", image_size, least=1)
    if not hasattr(data, "batch") or not isinstance(getattr(data, "labels", None), Tensor):
        raise ValueError(f"{name} must be one set of images, such as data.train or data.validation, got {shown(data)}")
    if len(data) == 0:
        raise ValueError(f"{name} must hold at least one image, got none")
    if data.labels.dtype != torch.int64 or int(data.labels.min()) < 0:
        raise ValueError(
            f"{name}.labels must be the classes' numbers, int64 from 0 on, got {data.labels.dtype} from "
            f"{data.labels.min().item()} on: number the classes 0, 1, 2 …, and take labels.long()"
        )
    shape = getattr(model, "input_shape", None)  # `build` leaves it there: (channels, height, width)
    if shape is None:
        return image_size or SIDE
    size = image_size or shape[-1]
    index = torch.zeros(1, dtype=torch.int64, device=data.device)
    channels = data.batch(index, image_size=size, augment="none", generator=None)[0].shape[1]
    if channels != shape[0]:
        raise ValueError(
            f"the network was built for images of {counted(shape[0], 'channel')}, and these have {channels}: build it "
            f"from an architecture with in_channels={channels}, such as VGG['A'].change(in_channels={channels})"
        )
    return size


def check_scores(scores: Tensor, labels: Tensor, data: Data) -> None:
    """ValueError unless `scores` is (N, classes), a row for each of `labels` (N,), and a class for each that `data`
    has. On a GPU the loss would take all down."""
    needed = int(data.labels.max()) + 1
    if not isinstance(scores, Tensor):
        raise ValueError(
            f"the network must give one tensor of (N, {needed}) scores, got {shown(scores)}: let its forward return "
            f"the scores alone"
        )
    if not scores.is_floating_point():
        raise ValueError(
            f"the network must give (N, {needed}) scores, got {scores.dtype} of shape {tuple(scores.shape)}: let its "
            f"forward return the last layer's output as it is, without argmax"
        )
    if scores.ndim != 2 or scores.shape[1] < needed:
        flat = f"let its last layer have {needed} outputs, such as nn.Linear(84, {needed})"
        if int(data.labels.min()) == 1:
            flat += ". Or do the labels begin at 1? Classes are numbered from 0: take labels - 1"
        raise ValueError(
            f"the network must give (N, {needed}) scores, one for each class that the labels name, got shape "
            f"{tuple(scores.shape)}: {flat if scores.ndim == 2 else 'an nn.Flatten() is missing'}"
        )
    if len(scores) != len(labels):
        found = f"{counted(len(scores), 'row')} for {counted(len(labels), 'image')}"
        raise ValueError(
            f"the network must give a row of scores for each image, got {found}: "
            f"a reshape(-1, …) or view(-1, …) in its forward mixes images; take x.flatten(1), and make the next layer "
            f"for what that gives"
        )


def check_trainable(scores: Tensor) -> None:
    """ValueError if no gradient would come through `scores`."""
    if not scores.requires_grad:
        raise ValueError(
            "the network's scores must depend on the weights that are trained, and no gradient comes through them: "
            "leave torch.no_grad(), .detach() and .data out of its forward, and freeze no more than you mean to"
        )


def count_steps(data: Data, recipe: Recipe) -> tuple[int, int]:
    """Steps in an epoch (of full batches; at least one) and in the whole training."""
    steps_per_epoch = max(1, len(data) // recipe.batch_size)
    return steps_per_epoch, recipe.epochs * steps_per_epoch


def prepare(model: nn.Module, device: torch.device, recipe: Recipe) -> None:
    """Move the model to the device, in the memory format and (if asked for) compiled, as the recipe says."""
    with memory_named(f"while the network was moved to {device}", TOO_LARGE):
        model.to(device)
        if recipe.channels_last:
            model.to(memory_format=fast_format(device))
    if recipe.compile:
        model.compile()


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW; fused into one kernel where torch has that."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        frozen = next(model.parameters(), None) is not None
        to_do = "all are frozen: p.requires_grad_(True) for some"
        if not frozen:
            to_do = (
                "add a convolution, a dense layer. Torch sees none in a plain list: take nn.Sequential or nn.ModuleList"
            )
        raise ValueError(f"model must have at least one parameter to train, got none: {to_do}")
    fused = parameters[0].device.type in ("cpu", "cuda")
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=fused)
    return torch.optim.SGD(
        parameters,
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
        weight_decay=recipe.weight_decay,
        fused=fused,
    )


def make_schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, total: int) -> torch.optim.lr_scheduler.LRScheduler:
    """How the learning rate goes over `total` steps. One-cycle: up over the first 30 %, then down to nothing."""
    match recipe.schedule:
        case "one-cycle":
            # One step more than there are: the schedule is stepped once more after the last.
            return torch.optim.lr_scheduler.OneCycleLR(
                optimizer, max_lr=recipe.lr, total_steps=total + 1, cycle_momentum=False
            )
        case "cosine":
            return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total)
        case "constant":
            return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    raise ValueError(f"schedule must be one of {SCHEDULES}, got {recipe.schedule!r}")


# --- evaluation -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evaluation:
    """What a model makes of a set of images: mean loss, top-1 accuracy (a share), the class predicted for each."""

    loss: float
    accuracy: float
    predictions: Tensor  # (N,) int64, on the CPU


def evaluate(
    model: nn.Module, data: Data, *, image_size: int | None = None, batch_size: int = 500, dtype: str = "float32"
) -> Evaluation:
    """Loss and accuracy of `model` on `data`, dropout off. The model's mode is put back afterwards.

    image_size None: what `build` made the model for, or 28 for a model of your own. batch_size: halved until it fits
    into memory; the result doesn't depend on it. dtype: what autocast computes in; "auto": what `fit` takes for it.

    Raises ValueError for what can't be evaluated, TrainingError if the loss is no number, OutOfMemory, which is one, if
    not even one image fits.
    """
    whole("batch_size", batch_size, least=1)
    image_size = check_images(model, data, image_size)
    compute_in = resolve_dtype(dtype, data.device)
    with memory_named(f"while the network was moved to {data.device}", TOO_LARGE):
        model.to(data.device)  # not in inference mode: what is moved in it can't be trained afterwards
    with keeping_modes(model):
        model.eval()
        result = _evaluate_in_what_fits(model, data, image_size, min(batch_size, len(data)), compute_in)
    if not math.isfinite(result.loss):
        spoilt = _spoilt_image(data, torch.arange(len(data), device=data.device).split(batch_size), image_size)
        raise evaluation_is_no_number(result.loss, dtype_name(dtype, data.device), spoilt, not_finite_in(model))
    return result


def _evaluate_in_what_fits(
    model: nn.Module, data: Data, image_size: int, batch_size: int, compute_in: torch.dtype
) -> Evaluation:
    """In batches of `batch_size`, or of half as many, until they fit."""
    while True:
        try:
            return _evaluate(model, data, image_size, batch_size, compute_in)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            found = first_line(error)
        # Not in the `except`: until it ends, the error's traceback holds the whole batch in memory.
        if batch_size == 1:
            raise OutOfMemory(f"memory ran out in evaluation, with a single image ({found}). {TOO_LARGE}")
        free_memory(data.device)
        batch_size //= 2


def _spoilt_image(data: Data, batches: Iterable[Tensor], image_size: int) -> str | None:
    """The first image with NaN or infinity among the numbered ones, (B,) int64 a batch: `image 7 holds nan`."""
    for index in batches:
        images, _ = data.batch(index, image_size=image_size, augment="none", generator=None)
        if found := not_finite_among(images, index):
            return found
    return None


def _evaluate(model: nn.Module, data: Data, image_size: int, batch_size: int, compute_in: torch.dtype) -> Evaluation:
    loss = torch.zeros((), device=data.device)
    predictions = []
    for scores, labels in _scores(model, data, image_size, batch_size, compute_in):
        loss += F.cross_entropy(scores.float(), labels, reduction="sum")
        predictions.append(scores.argmax(dim=1))
    predicted = torch.cat(predictions)
    correct = int((predicted == data.labels).sum())
    return Evaluation(float(loss) / len(data), correct / len(data), predicted.cpu())


@torch.inference_mode()
def _scores(
    model: nn.Module, data: Data, image_size: int, batch_size: int, compute_in: torch.dtype
) -> Iterator[tuple[Tensor, Tensor]]:
    """Scores (B, classes) and labels (B,), batch by batch."""
    for start in range(0, len(data), batch_size):
        index = torch.arange(start, min(start + batch_size, len(data)), device=data.device)
        images, labels = data.batch(index, image_size=image_size, augment="none", generator=None)
        with (
            torch.autocast(data.device.type, dtype=compute_in, enabled=compute_in != torch.float32),
            layers_named(model),
        ):
            scores = model(images)
        if start == 0:
            check_scores(scores, labels, data)
        yield scores, labels


# --- fit ------------------------------------------------------------------------------------------------------------


@dataclass
class History:
    """What happened in a training run, as plain data: `to_dict` goes into JSON as it is."""

    recipe: dict[str, Any]
    seed: int
    device: str
    dtype: str
    total_steps: int
    steps_per_epoch: int
    losses: list[float] = field(default_factory=list)  # one a step
    epochs: list[dict[str, Any]] = field(default_factory=list)  # one an epoch: validation loss and accuracy
    images: int = 0
    seconds: float = 0.0  # in steps and callbacks, without evaluation
    stopped: str | None = None  # None: ran to its end
    warning: str | None = None  # what is wrong with a run that did: that it has learnt nothing

    @property
    def images_per_s(self) -> float:
        """Training throughput: callbacks counted, evaluation not."""
        return self.images / self.seconds if self.seconds else float("nan")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


Callback = Callable[[Step], None]


def fit(
    model: nn.Module,
    data: Data,
    recipe: Recipe | None = None,
    *,
    image_size: int | None = None,
    validation: Data | None = None,
    seed: int = 0,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
) -> History:
    """Train `model` on `data` to the recipe's end, where the data is, and tell what happened.

    image_size None: what `build` made the model for, or 28 for a model of your own. With `validation`, loss and
    accuracy on it are taken after each epoch. Each callback is called with every step (an epoch's last: before the
    validation) and may raise `StopTraining`. ■ or Ctrl-C stops too: the model keeps what it has learnt, and the history
    says so.

    A loss that stayed where it is for a network that ignores its images is said, and noted as the history's `warning`.

    Raises ValueError for what can't be trained; TrainingError if the loss (on the validation images too) or the weights
    stop being numbers; OutOfMemory, which is one, if a batch doesn't fit: it names the largest that does, and changes
    nothing itself. What a callback raises comes out as it is. After any of these the network has the weights of its
    last step.
    """
    return Fitting(
        model, data, recipe, image_size=image_size, validation=validation, seed=seed, callbacks=callbacks,
        progress=progress,
    ).run()  # fmt: skip


class Fitting:
    """A `fit` that whoever iterates over it may pause: between two steps something else can be done.

    The arguments are those of `fit`, and so are the errors and the weights in the end. Iterating gives each step;
    `history` tells what happened so far, and its losses once it has ended. What is done between steps isn't counted.
    """

    SHOW_EVERY = 0.5  # seconds: how often the loss is fetched from the device, for the bar and to be checked

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        recipe: Recipe | None = None,
        *,
        image_size: int | None = None,
        validation: Data | None = None,
        seed: int = 0,
        callbacks: Sequence[Callback] = (),
        progress: bool = False,
    ) -> None:
        recipe = Recipe() if recipe is None else recipe
        self.image_size = check_images(model, data, image_size)
        if validation is not None:
            where = getattr(validation, "device", data.device)  # what has none is no images, which is said next
            if where != data.device:
                raise ValueError(f"validation must be where data is, on {data.device}, got images on {where}")
            check_images(model, validation, image_size, "validation")
        if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
            raise ValueError(f"callbacks must be a list of functions that take a step, got {shown(callbacks)}")
        self.steps = train(model, data, recipe, image_size=image_size, seed=seed)
        self.model, self.data, self.recipe, self.seed = model, data, recipe, seed
        self.validation, self.callbacks, self.progress = validation, callbacks, progress
        per_epoch, total = count_steps(data, recipe)
        dtype = dtype_name(recipe.dtype, data.device)
        self.history = History(asdict(recipe), seed, device_name(data.device), dtype, total, per_epoch)
        self.losses = torch.full((total,), float("nan"), device=data.device)
        self.done = self.checked = 0
        self.started: float | None = None  # when the clock was; None: it stands
        self.bar = progress_bar(total=total, unit="step", disable=not progress)

    def run(self) -> History:
        """All of it, at once."""
        with self._ended_well():
            for _ in self._watched():
                pass
        return self.history

    def __iter__(self) -> Iterator[Step]:
        with self._ended_well():
            yield from self._watched()

    @contextmanager
    def _ended_well(self) -> Iterator[None]:
        """Whoever stops it, the history says so, the clock stands, and the weights are looked at."""
        history = self.history
        try:
            yield
        except StopTraining as reason:
            history.stopped = f"at step {self.done} of {history.total_steps}: {reason}".removesuffix(": ")
        except KeyboardInterrupt:
            history.stopped = f"interrupted at step {self.done} of {history.total_steps}"
            print(f"Stopped: {history.stopped}. The network keeps what it has learnt so far.")
        finally:
            self._stop_clock()
            self.steps.close()
            self.bar.update(self.done - self.bar.n)  # what failed leaves its bar on the screen, as far as it came
            self.bar.close()
            history.losses = self.losses[: self.done].tolist()
            self.model.eval()
        self._check()  # who stopped it may not have seen the last losses
        self._check_end()

    def check(self) -> None:
        """TrainingError if losses so far, or weights, are no numbers: for who looks at the network meanwhile."""
        self._check()
        self._check_weights()

    def losses_so_far(self) -> list[float]:
        """One a step: fetching them waits for the device."""
        return self.losses[: self.done].tolist()

    def _watched(self) -> Iterator[Step]:
        self._start_clock()
        while (step := self._next_step()) is not None:
            self.losses[step.number - 1] = step.loss
            self.done, self.history.images = step.number, step.images
            try:
                self._call_back(step)
            except StopTraining:
                if step.ends_epoch:  # the epoch is whole
                    self._pause(step)
                raise
            if step.ends_epoch or time.perf_counter() > self.next_look:
                self._pause(step)
                self._start_clock()
            left = time.perf_counter()
            yield step
            away = time.perf_counter() - left
            self.started += away
            self.next_look += away

    def _next_step(self) -> Step | None:
        try:
            return next(self.steps, None)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            found = first_line(error)
        # Not in the `except`: until it ends, the error's traceback holds the whole batch in memory.
        raise self._out_of_memory(found)

    def _call_back(self, step: Step) -> None:
        for callback in self.callbacks:
            try:
                callback(step)
            except StopTraining:
                raise
            except Exception as error:
                name = getattr(callback, "__name__", type(callback).__name__)
                error.add_note(
                    f"Raised by the callback {name!r} at step {step.number} of {step.total}. The network keeps what it "
                    f"has learnt so far."
                )
                raise

    def _pause(self, step: Step) -> None:
        self._stop_clock()
        self._look()
        if step.ends_epoch:
            self._end_epoch(step)

    def _start_clock(self) -> None:
        self.started = time.perf_counter()
        self.next_look = self.started + self.SHOW_EVERY

    def _stop_clock(self) -> None:
        """Wait until the device has done its steps, and count the time since the clock was started, if it was."""
        if self.started is not None:
            synchronize(self.data.device)
            self.history.seconds += time.perf_counter() - self.started
            self.started = None

    def _look(self) -> None:
        """Fetch the losses since the last look: for the bar, and to stop if one is not a number."""
        self._check()
        self.bar.update(self.done - self.bar.n)
        loss = float(self.losses[self.checked : self.done].mean())
        self.bar.set_postfix(loss=f"{loss:.3f}" if loss < 1000 else f"{loss:.1e}")
        self.checked = self.done

    def _check(self) -> None:
        bad = (~self.losses[self.checked : self.done].isfinite()).nonzero()
        if len(bad):
            number = self.checked + int(bad[0]) + 1
            losses = self.losses[:number].tolist()
            its_images = itertools.islice(shuffled(self.data, self.recipe, self.seed), number - 1, number)
            spoilt = _spoilt_image(self.data, its_images, self.image_size)
            raise loss_is_no_number(
                losses, self.history.total_steps, self.recipe.lr, self.history.dtype, spoilt, self.model
            )

    def _check_weights(self) -> None:
        if self.done and (found := not_finite_in(self.model)):
            loss = float(self.losses[self.done - 1])
            raise weights_are_no_numbers(found, self.done, self.history.total_steps, loss, self.recipe.lr)

    def _check_end(self) -> None:
        """The last step's weights, which no loss has seen; and whether anything was learnt."""
        losses, lr = self.history.losses, self.recipe.lr
        self._check_weights()
        self.history.warning = learnt_nothing(losses, self.data.labels, lr, self.model)
        if self.history.warning and self.progress:
            print(f"Look out: {self.history.warning}.")

    def _out_of_memory(self, found: str) -> OutOfMemory:
        """Say how many images fit at a time."""
        self.steps.close()
        asked = min(self.recipe.batch_size, len(self.data))
        largest = self._largest_batch(asked)
        where = f"at step {self.done + 1} of {self.history.total_steps}, on {self.history.device}"
        if largest is None:
            to_do = "You have stopped the search for a batch that fits: take a smaller batch_size"
        elif largest:
            to_do = (
                f"There is room for about {counted(largest, 'image')}: take Recipe(batch_size={largest}) or a smaller "
                f"one. It makes more and other steps, and so another result: say so where you report it"
            )
        else:
            to_do = "Not even one image fits: take fewer channels, a smaller image or fewer dense units"
        message = f"memory ran out {where}, with a batch of {counted(asked, 'image')} ({found}). {to_do}"
        return OutOfMemory(message, largest or 0)

    def _largest_batch(self, too_large: int) -> int | None:
        """How many images fit, found with weights that are put back afterwards; None if the search was interrupted."""
        weights = {name: values.to("cpu", copy=True) for name, values in self.model.state_dict().items()}

        def some_steps(batch: int) -> None:
            smaller = replace(self.recipe, batch_size=batch, epochs=3, compile=False)
            steps = train(self.model, self.data, smaller, image_size=self.image_size, seed=self.seed)
            for _ in itertools.islice(steps, 3):  # from the second on, the optimiser's state is there too
                pass

        try:
            return largest_that_fits(some_steps, too_large, self.data.device)
        except KeyboardInterrupt:
            return None
        finally:
            self.model.load_state_dict(weights)
            self.model.zero_grad()

    def _end_epoch(self, step: Step) -> None:
        epoch = step.number // step.steps_per_epoch
        row: dict[str, Any] = {"epoch": epoch, "validation_loss": None, "validation_accuracy": None}
        if self.validation is not None:
            seen = evaluate(self.model, self.validation, image_size=self.image_size)
            row |= {"validation_loss": seen.loss, "validation_accuracy": seen.accuracy}
        self.history.epochs.append(row)
