"""What can go wrong while a network trains, found and put into words: what happened, where, and what to try."""

from __future__ import annotations

import gc
import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from utils.checks import of_kind, shown
from utils.words import plain

# A network that ignores its images has the loss ln(classes), or a little more while a high rate moves its last biases
# to and fro; how near below and above, for how many steps, before that is said.
BELOW_CHANCE, ABOVE_CHANCE = 0.01, 0.05
LEAST_STEPS = 50
TOO_LARGE = "The network itself is too large: take fewer channels, a smaller image or fewer dense units"


class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step, with what loss, and what to try."""


class OutOfMemory(TrainingError):
    """The device's memory is too small. `largest_batch`: how many images fit at a time; 0 if not even one does."""

    def __init__(self, message: str, largest_batch: int = 0) -> None:
        super().__init__(message, largest_batch)
        self.largest_batch = largest_batch

    def __str__(self) -> str:
        return self.args[0]


# What stands in the messages, and what it is called beside the explorers' knobs.
ON_SCREEN = {'norm="batch"': "batch norm", 'init="he"': "He’s initialisation", "init_std": "σ", "lr=": ""}


def on_screen(message: str) -> str:
    """A message for who turns knobs: `the learning rate lr=0.1` is `the learning rate 0.1` there."""
    for code, words in ON_SCREEN.items():
        message = message.replace(code, words)
    return message


# --- numbers that are none ------------------------------------------------------------------------------------------


def not_finite_in(model: nn.Module) -> str | None:
    """The first parameter or buffer that holds NaN or infinity, in words: `features.0.weight holds nan`."""
    for name, values in (*model.named_parameters(), *model.named_buffers()):
        if found := _not_finite(values):
            return f"{name} holds {found}"
    return None


def not_finite_among(images: Tensor, index: Tensor) -> str | None:
    """The first of `images` (B, C, H, W) that holds NaN or infinity, by its number in `index` (B,)."""
    for number, image in zip(index.tolist(), images, strict=True):
        if found := _not_finite(image):
            return f"image {number} holds {found}"
    return None


def _not_finite(values: Tensor) -> str | None:
    if not values.is_floating_point() or bool(values.isfinite().all()):
        return None
    return "nan" if bool(values.isnan().any()) else "inf"


def check_weights(model: nn.Module) -> None:
    """TrainingError if the network's weights are no numbers before it has been trained at all."""
    if found := not_finite_in(model):
        raise TrainingError(
            f"the network's {found} before the first step: build it anew. If it comes from a training that failed, its "
            f"weights were lost there; load the ones that you saved before"
        )


def loss_is_no_number(
    losses: Sequence[float], total: int, lr: float, dtype: str, spoilt_image: str | None, model: nn.Module | None = None
) -> TrainingError:
    """The error for a run whose last loss (of `losses`, one a step) is none. spoilt_image: what its batch holds.

    model: the network, so that nothing is advised that it has already.
    """
    step, before = len(losses), losses[:-1]
    good = f"the last good loss was {plain(before[-1], 4)}" if before else "it was never a number"
    message = f"the loss became {losses[-1]} at step {step} of {total}; {good}. "
    if spoilt_image:
        message += f"The cause is in the data: {spoilt_image}. Repair that image or leave it out, and look for others"
    elif not before:
        message += (
            f"The images and the weights are all right, so it is the scale: from layer to layer the numbers grow until "
            f"they are too large. Try {_steadier(model)}, or a smaller init_std{_range_of(dtype)}"
        )
    else:
        message += (
            f"The images and the first weights were all right, so most often the learning rate is too high: it is "
            f"lr={lr}, try a third of it. Else try {_steadier(model)}{_range_of(dtype)}"
        )
    return TrainingError(message)


def _steadier(model: nn.Module | None) -> str:
    """What keeps a network's numbers in bounds from layer to layer, and can't be seen to be there already."""
    he = 'init="he", if its weights are drawn in another way'
    has_norm = model is not None and any(isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)) for m in model.modules())
    return he if has_norm else f'norm="batch"; or {he}'


def _range_of(dtype: str) -> str:
    return "; or dtype='float32', because float16 ends at 65,504" if dtype == "float16" else ""


def evaluation_is_no_number(loss: float, dtype: str, spoilt_image: str | None, weights: str | None) -> TrainingError:
    """The error for a network whose loss on other images is none. spoilt_image, weights: what they hold, if it's that.

    An accuracy could be counted all the same, and would be wrong.
    """
    message = f"in evaluation the loss is {loss}. "
    if spoilt_image:
        message += f"The cause is in the data: {spoilt_image}. Repair that image or leave it out, and look for others"
    elif weights:
        message += (
            f"The network's {weights}: a training has failed before, most often because its learning rate was too "
            f"high. Build it anew, and try a third of the rate"
        )
    else:
        message += (
            f"The images and the weights are all right, so the network's scores are too large: most often the learning "
            f"rate was too high, try a third of it{_range_of(dtype)}"
        )
    return TrainingError(message)


def weights_are_no_numbers(found: str, step: int, total: int, loss: float, lr: float) -> TrainingError:
    """The error for a run whose last step has spoilt the weights: no loss has seen them."""
    return TrainingError(
        f"after step {step} of {total} {found}; the loss just before was still {plain(loss, 4)}. The last step was too "
        f"long: the learning rate lr={lr} is too high, try a third of it"
    )


def check_numbers(model: nn.Module) -> None:
    """ValueError if there is nothing to compute with: weights without numbers, or that are none."""
    if found := next((name for name, p in model.named_parameters() if p.is_meta), None):
        raise ValueError(f"the model has shapes but no numbers ({found} is on 'meta'): build it without device='meta'")
    if found := not_finite_in(model):
        raise ValueError(
            f"the model's weights must be finite numbers, and {found}: a training that failed has spoilt them. Build "
            f"it anew, and look at it before that happens"
        )


def check_batch_of_images(images: object) -> None:
    """ValueError unless these are finite floating-point numbers (N, channels, height, width)."""
    of_kind("images", images, Tensor, "the first that data.train.batch(slice(128)) gives")
    if images.ndim != 4 or not images.is_floating_point():
        to_do = "take images[None] for one image" if images.ndim == 3 else "take what data.train.batch gives"
        if images.ndim == 4:
            to_do = "take images.float() / 255, or what data.train.batch gives"
        raise ValueError(
            f"images must be floating-point numbers of shape (N, channels, height, width), got {images.dtype} of shape "
            f"{tuple(images.shape)}: {to_do}"
        )
    if found := not_finite_among(images, torch.arange(len(images))):
        raise ValueError(f"images must be finite numbers, and {found}: repair that image or leave it out")


def check_not_lazy(model: nn.Module) -> None:
    """ValueError, with its name, at the first parameter that doesn't know its shape yet."""
    if found := next((name for name, p in model.named_parameters() if nn.parameter.is_lazy(p)), None):
        raise ValueError(
            f"the model has Lazy layers that don't know their shapes yet ({found}): send one batch through it first, "
            f"model(torch.zeros(1, 1, 28, 28)). For a network of the book: call utils.book.from_book(model)"
        )


# --- layers that don't fit ------------------------------------------------------------------------------------------


@contextmanager
def layers_named(model: nn.Module) -> Iterator[None]:
    """While `model` runs: an error of torch's in one of its layers, but for memory, is a ValueError that names it.

    Torch says which matrices can't be multiplied, and not where in a network they are. A `.view` in a student's own
    forward fails on channels_last; that is said too, and the weights are put back in torch's own order: with them as
    they are, what worked before would fail as well.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if is_out_of_memory(error) or isinstance(error, NotImplementedError):
            raise
        if "view size is not compatible" in str(error):
            with torch.inference_mode(False):
                model.to(memory_format=torch.contiguous_format)
            raise ValueError(_VIEW.format(found=first_line(error))) from error
        if not (found := _layer_where(model, error)):
            raise
        name, layer, given = found
        shapes = " and ".join(str(tuple(x.shape)) for x in given)
        raise ValueError(
            f"a layer of the network can't take what it is given.\n"
            f"  found: {name}, {shown(layer)}, given {shapes}: {first_line(error)}\n"
            f"  to do: {to_do_for(layer, given[0].shape, error) if given else MAKE_IT_FIT}"
        ) from error


_VIEW = (
    "the network's forward calls .view(…), which needs numbers that lie in memory channel by channel, and they lie "
    "pixel by pixel (channels_last, which is faster).\n"
    "  found: {found}\n"
    "  to do: write x.flatten(1) or x.reshape(…) instead of x.view(…); or train it with Recipe(channels_last=False)"
)
MAKE_IT_FIT = "make that layer for what it is given, or change a layer before it"


def to_do_for(layer: nn.Module, shape: torch.Size, error: BaseException) -> str:
    """What to do about a layer that can't take a tensor of that shape, (N, …)."""
    if isinstance(layer, nn.Linear) and len(shape) > 2:
        numbers = shape[1:].numel()
        given = f"{numbers} number{'s' * (numbers != 1)}"  # without commas, as nn.Linear has it
        fits = "which is what it expects" if numbers == layer.in_features else f"so make it nn.Linear({numbers}, …)"
        return f"put an nn.Flatten() before it: it is then given {given} an image, {fits}"
    if "more than 1 value per channel" in str(error):
        return "batch norm needs more than one number a channel to train on: take a larger batch_size, or more images"
    return MAKE_IT_FIT


def first_line(error: BaseException) -> str:
    """What an error says first, torch's own stack of frames left out; its kind if it says nothing."""
    return str(error).split("\n")[0] or type(error).__name__


def _layer_where(model: nn.Module, error: BaseException) -> tuple[str, nn.Module, list[Tensor]] | None:
    """The layer of torch's that was at work when the error was raised: its name, itself, and what it was given."""
    names = {id(module): name for name, module in model.named_modules() if next(module.children(), None) is None}
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        here = frame.f_locals
        module, given = here.get("self"), (*here.get("args", ()), *here.get("kwargs", {}).values())
        if id(module) in names and given:  # torch's own frame, which hands a layer what it is given
            found = names[id(module)], module, [x for x in given if isinstance(x, Tensor)]
    return found


# --- nothing learnt -------------------------------------------------------------------------------------------------


def learnt_nothing(losses: Sequence[float], labels: Tensor, lr: float, model: nn.Module | None = None) -> str | None:
    """In words, if the loss ends where a network has it that ignores its images: at ln(classes). None if all is well.

    losses: one a step. Of fewer than 50 steps nothing is said. model: so that nothing is advised that it has already.
    """
    classes = len(labels.unique())
    chance = math.log(classes)
    if classes < 2 or len(losses) < LEAST_STEPS:
        return None
    last = losses[-max(20, len(losses) // 10) :]
    mean = sum(last) / len(last)
    if not (1 - BELOW_CHANCE) * chance <= mean <= (1 + ABOVE_CHANCE) * chance:
        return None
    return (
        f"the loss stayed at ln {classes} = {chance:.3f} (it is {mean:.3f}): the network has learnt nothing, it gives "
        f"each of the {classes} classes the same chance. Either the signal vanishes on its way through the layers (try "
        f"{_steadier(model)}), or its units died at too high a rate (it is lr={lr}, try a third of it), or the "
        f"rate is far too low to move anything. The clinic in lesson 04 shows how to tell which"
    )


# --- memory ---------------------------------------------------------------------------------------------------------


def is_out_of_memory(error: BaseException) -> bool:
    """Does `error` say that memory ran out? Each device says it in its own way."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    signs = (
        "out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED",
        "Invalid buffer size",  # Apple's GPU, of a tensor larger than any may be
        "Storage size calculation overflowed", "numel: integer multiplication overflow",
    )  # fmt: skip
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


@contextmanager
def memory_named(where: str, to_do: str) -> Iterator[None]:
    """Where memory runs out meanwhile, that is an OutOfMemory which says where, and what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, OutOfMemory) or not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"memory ran out {where} ({first_line(error)}). {to_do}") from error


def free_memory(device: torch.device) -> None:
    """Give back what torch keeps for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def largest_that_fits(try_it: Callable[[int], object], too_large: int, device: torch.device) -> int:
    """The largest batch, to within an eighth, for which `try_it(batch)` doesn't run out of memory; 0 if none does.

    `too_large` is one for which it did. One image that can't be trained alone, as with batch norm behind a 1×1 map,
    doesn't fit either.
    """

    def fits(batch: int) -> bool:
        free_memory(device)
        try:
            try_it(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return False
        except ValueError:
            if batch > 1:
                raise
            return False
        return True

    gc.collect()  # what failed may wait for it
    low = too_large // 2
    while low and not fits(low):
        low, too_large = low // 2, low
    while low and too_large - low > max(1, low // 8):
        middle = (low + too_large) // 2
        low, too_large = (middle, too_large) if fits(middle) else (low, middle)
    free_memory(device)
    return low
