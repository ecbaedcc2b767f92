"""The vital signs of a network: does the image get through to the end, does the gradient come back, which ReLUs died?

A network that is stuck at ln 10 has one of two diseases. *Vanishing*: what tells one image from another shrinks from
layer to layer on the way forward, and the gradient on the way back. *Dying*: ReLUs that give 0 for every image, and so
learn nothing any more. `vital_signs` takes one batch and tells which.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from utils.checks import of_kind, shown
from utils.faults import (
    ABOVE_CHANCE,
    BELOW_CHANCE,
    check_batch_of_images,
    check_not_lazy,
    check_numbers,
    layers_named,
)
from utils.modes import keeping_modes
from utils.words import counted, percent, plain, power_of_ten

NOTE = (
    "activation: how much what a layer hands on differs from image to image. gradient: how strongly the loss of an "
    "image depends on what the layer computes. dead: channels whose ReLU gives 0 everywhere, for every image."
)


# --- the table ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class VitalSigns:
    """What one batch shows of a network's health. `vital_signs` makes it.

    `layers` has a row for each time that a convolution (nn.Conv2d) or a dense layer (nn.Linear) ran, in that order: a
    layer that ran twice has two rows.

    layer       as in the network's state dict: `features.0`
    kind        "conv" or "dense"
    activation  how much what the layer hands on, after the norm and the activation behind it, differs from image to
                image: the standard deviation over the images of each of its numbers, and of those the root mean square.
                Neither the root mean square of all numbers nor their standard deviation would do. ReLU's outputs have a
                mean above 0, and biases give every channel an output; both are the same for all images, and stay large
                while all that tells a shirt from a shoe vanishes. Float32 can't tell images apart that differ by less
                than 10⁻⁷ of the numbers' own size: there a falling line ends in rounding
    gradient    length (Euclidean norm) of the gradient of one image's loss with respect to what the layer itself
                computes, before norm and activation; the root mean square over the images. Not with respect to its
                weights: that is this gradient times the layer's input, one shrinks towards the front, the other towards
                the end, and without biases their product is equally small everywhere: no slope is left to see. And the
                length, not a mean over the layer's numbers: He's initialisation keeps it through convolutions and
                pooling, whatever the layer's size, so that a healthy network has a level line. 0 where none comes back
    dead        share of the layer's channels (of a dense layer: units) whose ReLU gives 0 at all positions for all
                images; NaN where no ReLU follows. Look at it last: where the signal has vanished, a bias alone decides
                whether its ReLU ever opens, and about half look dead
    """

    loss: float  # mean cross-entropy
    num_classes: int
    num_images: int
    layers: pd.DataFrame

    @property
    def chance(self) -> float:
        """The loss of a network that gives each class the same chance, ln(num_classes): 2.303 for ten."""
        return math.log(self.num_classes)

    def in_words(self) -> pd.DataFrame:
        """The table for people: numbers as text, two digits each."""
        dead = [f"{share:.0%}" if share == share else "–" for share in self.layers.dead]
        numbers = {name: [f"{value:.2g}" for value in self.layers[name]] for name in ("activation", "gradient")}
        table = pd.DataFrame({"layer": self.layers.layer, "kind": self.layers.kind, **numbers, "dead": dead})
        return table.set_index("layer")

    def __repr__(self) -> str:
        return f"{self._headline()}\n{self.in_words().to_string()}\n{NOTE}"

    def _repr_html_(self) -> str:
        return f"<p>{self._headline()}</p>{self.in_words().to_html()}\n<p>{NOTE}</p>"

    def _headline(self) -> str:
        return f"loss {self.loss:.3f} on {self.num_images} images (chance: ln {self.num_classes} = {self.chance:.3f})"


@torch.inference_mode(False)
def vital_signs(model: nn.Module, images: Tensor, labels: Tensor) -> VitalSigns:
    """One step of training without the step: loss and gradients of a batch, and what they show of each layer.

    images: (N, C, H, W) float; labels: (N,) int64, as `data.train.batch` gives them. N is at least 2; a hundred or so
    is enough, and with fewer more ReLUs look dead. All is done in float32 and in training mode: dropout drops, batch
    norm uses the batch, layers that are frozen get a gradient too.

    The model stays as it is: a copy of its weights and buffers is used, where the images are; mode, gradients, hooks
    and torch's random numbers are put back, also after an error. Hooks of yours run along.

    ReLUs, other activations and norms are found by what torch is asked to compute, so F.relu(self.conv(x)) counts as
    well as nn.ReLU; pooling or dropout may stand between. Where a shortcut is added before the ReLU, as in a residual
    block, the last layer before the sum is taken to hand it on. An activation that you write yourself
    (x.clamp(min=0)) isn't known, and counts as none.

    Raises ValueError for what is no such batch, for a model without convolutions and dense layers or with scores that
    don't fit the labels, and where a number is infinite or none: it names the first layer where that is so.
    """
    of_kind("model", model, nn.Module, "build(LENET)")
    model = getattr(model, "_orig_mod", model)  # of torch.compile(model), which would hide the layers
    check_not_lazy(model)
    _check_batch(images, labels)
    check_numbers(model)
    labels = labels.to(images.device)
    weights = {name: _copied(p, images.device).requires_grad_() for name, p in model.named_parameters()}
    buffers = {name: _copied(b, images.device) for name, b in model.named_buffers()}
    watch = _Watch()
    with _as_in_training(model, images.device):
        with watch.hooked(model), layers_named(model):
            # {}, no keywords: layers_named looks through torch's frames, and would find None.
            scores = functional_call(model, {**weights, **buffers}, (_copied(images, images.device),), {})
        _check_scores(scores, labels, watch.readings)
        loss = F.cross_entropy(scores, labels, reduction="sum")  # an image's gradient is its own, not 1/N of it
        _check_numbers(watch.readings, "activation", float(loss.detach()))
        torch.autograd.grad(loss, list(weights.values()), allow_unused=True)  # .grad is left alone
    _check_numbers(watch.readings, "gradient")
    layers = pd.DataFrame([asdict(reading) for reading in watch.readings])
    return VitalSigns(float(loss.detach()) / len(labels), scores.shape[1], len(labels), layers)


# --- what they say --------------------------------------------------------------------------------------------------

# How much of a line may get lost from its first layer to its last. Tried: VGG-11 and VGG-19 at an eighth from thirteen
# starts, three seeds, rates of 0.01, 0.05 and 0.1, twenty steps. Of those below VANISHED none got away from ln 10, of
# those between the two one in nine. Where a line rose above 1 / VANISHED, the loss ended as no number.
VANISHED, FADED = 1 / 500, 1 / 100
LOUD = 2.0  # × chance: a loss above it before training comes from scores that are too large
DIED = 0.10  # how much more of a layer's channels are dead than before, on average


@dataclass(frozen=True)
class Diagnosis:
    """What vital signs say. kind: as in `diagnosis`; words: what is seen, with its numbers."""

    kind: str
    words: str


def diagnosis(signs: VitalSigns, before: VitalSigns | None = None) -> Diagnosis:
    """What the vital signs say of a network's health. before: those from before its training, if it had one.

    vanishing   what tells images apart falls more than 500-fold from the first layer to the last; or the gradient does
                on its way back
    exploding   one of them rises as much
    dying       of a layer's channels 10 points more are dead than before, on average. Told in comparison alone, and not
                where the signal had vanished before: there dead channels mean nothing. That the lines fall as well
                follows from the dead
    loud        the loss is more than twice chance before training: the scores are too large
    fading      as vanishing, but more than 100-fold
    healthy     none of these
    """
    slopes = _slopes(signs)
    if before is not None and min(_slopes(before)) >= VANISHED and _mean_dead(signs) - _mean_dead(before) >= DIED:
        words = (
            f"ReLUs have died: {percent(_mean_dead(signs))} of a layer's channels are 0 for every image, on average; "
            f"before training it was {percent(_mean_dead(before))}. Through them no gradient comes: they stay dead. "
            f"The rate was too high."
        )
        return Diagnosis("dying", words)
    if min(slopes) < VANISHED:
        ending = (
            "A rate multiplies the gradient, and there is next to nothing to multiply."
            if slopes[1] < VANISHED
            else "The last layers see next to no difference between two images."
        )
        return Diagnosis("vanishing", f"The signal vanishes: {_in_words(slopes, VANISHED)}. {ending}")
    if max(slopes) > 1 / VANISHED:
        words = f"The signal explodes: {_in_words(slopes, 1 / VANISHED)}. A few steps, and the numbers overflow."
        return Diagnosis("exploding", words)
    if before is None and signs.loss > LOUD * signs.chance:
        words = (
            f"The scores are too large: the loss is {plain(signs.loss, 3)}, where a network that knows nothing has "
            f"ln {signs.num_classes} = {signs.chance:.3f}. So are the first steps: take a low rate."
        )
        return Diagnosis("loud", words)
    if min(slopes) < FADED:
        ending = "It may learn, slowly, or at a high rate; with some layers more it would vanish."
        return Diagnosis("fading", f"The signal fades: {_in_words(slopes, FADED)}. {ending}")
    words = (
        f"Healthy: from the first layer to the last, what tells images apart {_changes(slopes[0])}; the gradient, on "
        f"its way back, {_changes(slopes[1])}. {_dead_in_words(signs)}"
    )
    return Diagnosis("healthy", words + (" Whether it stays so, the rate decides." if before is None else ""))


def _slopes(signs: VitalSigns) -> tuple[float, float]:
    """What is left of the first layer's activation in the last one, and of the last one's gradient in the first."""

    def left(of: float, there: float) -> float:
        return of / there if of and there else 0.0

    activation, gradient = signs.layers.activation, signs.layers.gradient
    return left(activation.iloc[-1], activation.iloc[0]), left(gradient.iloc[0], gradient.iloc[-1])


def _mean_dead(signs: VitalSigns) -> float:
    """Over the layers with a ReLU; 0 where there is none."""
    dead = signs.layers.dead.dropna()
    return float(dead.mean()) if len(dead) else 0.0


def _in_words(slopes: tuple[float, float], limit: float) -> str:
    """Those of both that are beyond the limit: below it, or above if it is above 1."""
    ways = (
        ("what tells one image from another", "after the last layer", "after the first"),
        ("the gradient", "at the first layer", "at the last"),
    )
    said = []
    for (what, here, there), slope in zip(ways, slopes, strict=True):
        if slope == 0 and limit < 1:
            said.append(f"{what} is gone {here}")
        elif (slope < limit) if limit < 1 else (slope > limit):
            said.append(f"{what} is {_about(slope)} {here} than {there}")
    return ", and ".join(said)


def _changes(slope: float) -> str:
    fold = max(slope, 1 / slope)
    return f"gets {_about(slope)}" if fold >= 2 else "stays about as strong"


def _about(slope: float) -> str:
    """`60,000 times weaker`, `8 times stronger`, `10⁸ times weaker`."""
    fold = max(slope, 1 / slope)
    if fold < 1e6:
        number = f"{float(f'{fold:.1g}'):,.0f}" if fold >= 10 else f"{fold:.0f}"
    else:
        number = power_of_ten(round(math.log10(fold)))
    return f"{number} times {'weaker' if slope < 1 else 'stronger'}"


def _dead_in_words(signs: VitalSigns) -> str:
    dead = signs.layers.dead.dropna()
    if dead.empty:
        return "No ReLU is there to die."
    if dead.max() == 0:
        return "No channel is dead."
    worst = signs.layers.layer[dead.idxmax()]
    return f"Dead: {percent(_mean_dead(signs))} of a layer's channels on average, most in {worst}."


# --- and the first losses -------------------------------------------------------------------------------------------

LAST = 5  # steps whose mean is compared with chance
FEWEST = 10  # steps: of fewer nothing is said
SURE, HINT = 2.0, 3.0  # standard errors of that mean
LEAST_HINT = 0.002  # of chance


def first_losses(losses: Sequence[float], num_classes: int = 10) -> Diagnosis:
    """Whether the loss of a training's first steps, one a step, has left chance: ln(num_classes).

    The mean of the last five steps is held against chance, with its standard error from their spread.

    few           fewer than 10 steps
    left          it is more than 1 % below chance, and by more than 2 standard errors
    thrown back   that was so of five steps in a row before, and no more
    above         it is more than 5 % above: the steps make it worse
    leaving       it is below by more than 3 standard errors and 0.2 %, but not by 1 %
    at chance     else. It may be stuck, or only slow: these steps can't tell, the vital signs can
    no number     one of the losses is NaN or infinite
    """
    chance = math.log(num_classes)
    if (bad := next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), None)) is not None:
        return Diagnosis("no number", f"At step {bad + 1} the loss is {losses[bad]}: the numbers have grown too large.")
    if len(losses) < FEWEST:
        return Diagnosis(
            "few", f"After {counted(len(losses), 'step')} nothing can be said: it takes {FEWEST} at least."
        )
    mean, error = _mean_and_error(losses[-LAST:])
    found = f"The last {LAST} steps have a loss of {mean:.3f} ± {error:.3f}; chance, ln({num_classes}), is {chance:.3f}"
    if _has_left(mean, error, chance):
        return Diagnosis("left", f"The loss leaves chance. {found}.")
    best = min(range(len(losses) - LAST), key=lambda i: sum(losses[i : i + LAST]))
    lowest, its_error = _mean_and_error(losses[best : best + LAST])
    if _has_left(lowest, its_error, chance):
        words = (
            f"The loss had left chance ({lowest:.3f} in steps {best + 1} to {best + LAST}) and was thrown back: the "
            f"rate is high. {found}."
        )
        return Diagnosis("thrown back", words)
    if mean > (1 + ABOVE_CHANCE) * chance:
        return Diagnosis("above", f"The loss is above chance: the steps make it worse. {found}.")
    if mean < chance - max(HINT * error, LEAST_HINT * chance):
        return Diagnosis("leaving", f"The loss may be leaving chance, slowly. {found}.")
    words = f"The loss stays at chance: stuck, or only slow, {len(losses)} steps can't tell. {found}."
    return Diagnosis("at chance", words)


def _mean_and_error(losses: Sequence[float]) -> tuple[float, float]:
    """Their mean and its standard error."""
    return statistics.fmean(losses), statistics.stdev(losses) / math.sqrt(len(losses))


def _has_left(mean: float, error: float, chance: float) -> bool:
    return mean < (1 - BELOW_CHANCE) * chance and mean < chance - SURE * error


# --- what is measured -----------------------------------------------------------------------------------------------

KINDS = {nn.Conv2d: "conv", nn.Linear: "dense"}
RELUS = {"relu", "relu_", "relu6"}  # torch's functions, by name: nn.ReLU calls them as well
HANDED_ON = RELUS | {  # what belongs to the layer before it
    "batch_norm", "local_response_norm", "layer_norm", "group_norm", "instance_norm",
    "tanh", "tanh_", "sigmoid", "sigmoid_", "gelu", "silu", "mish", "elu", "elu_", "selu", "celu", "leaky_relu",
    "leaky_relu_", "prelu", "softplus", "hardtanh", "hardswish", "hardsigmoid", "softmax", "log_softmax",
}  # fmt: skip


@dataclass
class _Reading:
    """A row of `VitalSigns.layers`."""

    layer: str
    kind: str
    activation: float
    gradient: float = 0.0
    dead: float = math.nan

    def see(self, output: Tensor, is_relu: bool) -> None:
        """What a norm or an activation made of the layer's output."""
        self.activation = _spread_over_images(output)
        if is_relu:
            self.dead = _dead(output, channels=1 if self.kind == "conv" else -1)

    def take_gradient(self, gradient: Tensor) -> None:
        """(N, …): with respect to the layer's output, a row for each image."""
        self.gradient = _root_mean_square(gradient.detach()) * math.sqrt(gradient[0].numel())


class _Watch(TorchFunctionMode):
    """Follows what each weight layer computes: while it is active, torch's functions report here.

    ReLU works in place. That overwrites a layer's output, so all is measured at once; a tensor's hook that was set
    before still gets the gradient of what the tensor was then.
    """

    def __init__(self) -> None:
        super().__init__()
        self.readings: list[_Reading] = []
        self.source: dict[int, tuple[Tensor, _Reading]] = {}  # by id; the tensors are held, so that none is reused

    @contextmanager
    def hooked(self, model: nn.Module) -> Iterator[None]:
        """While the model runs."""
        hooks = []
        try:
            for name, module in model.named_modules():
                if kind := next((KINDS[known] for known in KINDS if isinstance(module, known)), None):
                    hooks.append(module.register_forward_hook(partial(self._begin, name, kind)))
            with self:
                yield
        finally:
            for hook in hooks:
                hook.remove()
            self.source.clear()

    def _begin(self, name: str, kind: str, module: nn.Module, args: tuple, output: Tensor) -> None:
        reading = _Reading(name, kind, _spread_over_images(output))
        if output.requires_grad:
            output.register_hook(reading.take_gradient)
        self.readings.append(reading)
        self.source[id(output)] = output, reading

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if args and id(args[0]) in self.source and isinstance(output, Tensor):
            _, reading = self.source[id(args[0])]
            name = getattr(func, "__name__", "")
            if name in HANDED_ON:
                reading.see(output, is_relu=name in RELUS)
            self.source[id(output)] = output, reading
        return output


@torch.no_grad()
def _spread_over_images(x: Tensor) -> float:
    """Of (N, …): the standard deviation over N of each number; of those the root mean square."""
    from_first = x - x[:1]  # exactly 0 where all images have the same, which a mean need not give
    return _root_mean_square(from_first - from_first.mean(0))


@torch.no_grad()
def _dead(x: Tensor, channels: int) -> float:
    """The share of the channels, which are the dimension `channels`, that are 0 everywhere."""
    alive = x.movedim(channels, 0).flatten(1).any(1)
    return 1 - int(alive.sum()) / len(alive)


@torch.no_grad()
def _root_mean_square(x: Tensor) -> float:
    largest = float(x.abs().max())
    if largest == 0 or not math.isfinite(largest):
        return largest
    return largest * float((x / largest).square().mean().sqrt())  # float32 ends at 10⁻⁴⁵: 10⁻²³, squared, would be 0


# --- the model stays as it is ---------------------------------------------------------------------------------------


def _copied(tensor: Tensor, device: torch.device) -> Tensor:
    """Float32 if it has a point, in torch's own order in memory."""
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to(device, dtype, copy=True, memory_format=torch.contiguous_format)


@contextmanager
def _as_in_training(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Training mode, gradients, float32, nothing compiled; afterwards all is as before, the random numbers too."""
    compiled = {m: vars(m).pop("_compiled_call_impl") for m in model.modules() if "_compiled_call_impl" in vars(m)}
    on_mps = torch.mps.get_rng_state() if device.type == "mps" else None  # which fork_rng can't
    try:
        with (
            keeping_modes(model),
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            torch.autocast(device.type, enabled=False),
            torch.enable_grad(),
        ):
            model.train()
            yield
    finally:
        for module, call in compiled.items():
            module._compiled_call_impl = call
        if on_mps is not None:
            torch.mps.set_rng_state(on_mps)


# --- checks ---------------------------------------------------------------------------------------------------------


def _check_batch(images: Any, labels: Any) -> None:
    check_batch_of_images(images)
    of_kind("labels", labels, Tensor, "the second that data.train.batch(slice(128)) gives")
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        to_do = "take labels.long()" if labels.shape == images.shape[:1] else "give the labels of these images"
        raise ValueError(
            f"labels must be int64 of shape ({len(images)},), a class for each image, got {labels.dtype} of shape "
            f"{tuple(labels.shape)}: {to_do}"
        )
    if len(images) < 2:
        raise ValueError(
            f"images must be at least 2, to see whether the network tells them apart, got {len(images)}: take a hundred"
        )


def _check_scores(scores: Any, labels: Tensor, readings: list[_Reading]) -> None:
    if not readings:
        raise ValueError(
            "the model must run at least one convolution (nn.Conv2d) or dense layer (nn.Linear), got none: give the "
            "whole network"
        )
    shape = tuple(scores.shape) if isinstance(scores, Tensor) else shown(scores)
    if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) != len(labels) or scores.shape[1] < 2:
        raise ValueError(
            f"the model must give a row of scores for each image, ({len(labels)}, classes), got {shape}: give the "
            f"whole network, and let its forward return the scores alone"
        )
    if not scores.requires_grad:
        raise ValueError(
            "the model's scores must depend on its weights, and no gradient comes through them: leave "
            "torch.no_grad(), .detach(), .data and argmax out of its forward"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= scores.shape[1]:
        to_do = "number the classes 0, 1, 2 …" if low < 0 else f"give the last layer at least {high + 1} outputs"
        if low == 1:
            to_do += ". Or do the labels begin at 1? Classes are numbered from 0: take labels - 1"
        raise ValueError(
            f"labels must be classes from 0 to {scores.shape[1] - 1}, for which the model has scores, got {low} to "
            f"{high}: {to_do}"
        )


def _check_numbers(readings: list[_Reading], what: str, loss: float = 0.0) -> None:
    """ValueError if the loss, or one of the `what`s, "activation" or "gradient", is infinite or none."""
    # Gradients are met on the way back: the last layer's first.
    order = readings if what == "activation" else readings[::-1]
    first = next((reading for reading in order if not math.isfinite(getattr(reading, what))), None)
    if first is None and math.isfinite(loss):
        return
    where = f"the {what} of {first.layer} is the first that is no finite number" if first else f"the loss is {loss}"
    raise ValueError(
        f"the network's numbers must be finite, and {where}. Images and weights are all right, so it is the scale: the "
        f'numbers grow from layer to layer until float32 can\'t hold them. Try init="he", a smaller init_std or '
        f'norm="batch"; if it was trained, a third of the learning rate'
    )
