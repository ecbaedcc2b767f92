"""The bridge to the book, *Dive into Deep Learning*: our networks and data in its Trainer, its networks in our `fit`.

    d2l = import_d2l()
    d2l.Trainer(max_epochs=3).fit(as_classifier(build(VGG_SMALL["VGG (1,1)"]), lr=0.1), as_data_module(data))
    fit(from_book(d2l.LeNet()), data.train, Recipe(lr=0.5))

d2l is a guest: nothing else imports it, and everything but this module works without it.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from utils.checks import image_shape, is_number, of_kind, truth, whole
from utils.data import FashionMNIST, Images
from utils.faults import check_not_lazy, layers_named
from utils.modes import keeping_modes
from utils.training import Recipe, make_optimizer, make_schedule, shuffled

INSTALL = "pip install --no-deps d2l==1.0.3 && pip install scipy requests"


def import_d2l() -> ModuleType:
    """The book's package, `d2l.torch`. ImportError, with the command that installs it, if it isn't there."""
    try:
        return importlib.import_module("d2l.torch")
    except ImportError as error:
        missing = "it is not installed" if (error.name or "d2l").split(".")[0] == "d2l" else f"it lacks {error.name}"
        raise ImportError(
            f"This takes the book's package, d2l, and {missing}.\n"
            f"  to do: {INSTALL}\n"
            f"         (without --no-deps it would bring numpy 1.23.5 and matplotlib 3.7.2, and break the rest), then "
            f"restart the kernel",
            name=error.name,
        ) from error


# --- ours, in the book's Trainer --------------------------------------------------------------------------------------


def as_classifier(model: nn.Module, *, lr: float = 0.1, recipe: Recipe | None = None, draw: bool = True) -> Any:
    """`model` as a `d2l.Classifier`, for `d2l.Trainer(max_epochs=…).fit`. It shares the weights: `model` learns.

    With `lr` it is trained as the book does it, by plain SGD. With `recipe`, by that recipe's optimiser and schedule
    (the Trainer knows neither autocast nor epochs of a recipe: it has its own `max_epochs`). draw: whether the book's
    board draws while it trains.

    Raises ValueError for what is no network, or for a network with Lazy layers.
    """
    of_kind("model", model, nn.Module, "build(LENET)")
    check_not_lazy(model)
    if not is_number(lr) or lr <= 0:
        raise ValueError(f"lr must be a number above 0, got {lr!r}")
    if recipe is not None:
        of_kind("recipe", recipe, Recipe, "Recipe(lr=0.05)")
    truth("draw", draw)
    return _classes().Classifier(model, lr, recipe, draw)


def as_data_module(
    data: FashionMNIST,
    *,
    batch_size: int = 256,
    image_size: int = 28,
    augment: str = "none",
    to_report: bool = False,
    seed: int = 0,
) -> Any:
    """`data` as a `d2l.DataModule`: batches straight from its tensors, without workers, and without another copy.

    Trains on the 55,000 and validates on the 5,000; with to_report, for a number that is reported, trains on all 60,000
    and "validates" on the test images. Batches come as `fit` takes them: in a new order each epoch, decided by the
    seed, without a last one that isn't full.

    Raises ValueError for what are no such data.
    """
    of_kind("data", data, FashionMNIST, "load_fashion_mnist()")
    whole("batch_size", batch_size, least=1)
    whole("seed", seed, least=0)
    truth("to_report", to_report)
    data.train.batch(slice(0, 1), image_size=image_size, augment=augment)  # says what is wrong with these two
    return _classes().DataModule(data, batch_size, image_size, augment, to_report, seed)


@functools.cache
def _classes() -> SimpleNamespace:
    """The two classes, which can be made only where d2l is."""
    d2l = import_d2l()

    class Classifier(d2l.Classifier):
        """A network of ours, in the book's clothes."""

        def __init__(self, net: nn.Module, lr: float, recipe: Recipe | None, draw: bool) -> None:
            super().__init__()
            self.net, self.lr, self.recipe = net, lr, recipe
            self.board.display = draw

        def configure_optimizers(self) -> torch.optim.Optimizer:
            loader = self.trainer.train_dataloader
            if isinstance(loader, _Loader) and not self.trainer.gpus:  # it moves nothing, and ours may lie on a GPU
                self.net.to(loader.images.device)
            if self.recipe is None:
                return super().configure_optimizers()
            optimizer = make_optimizer(self.net, self.recipe)
            steps = self.trainer.max_epochs * self.trainer.num_train_batches
            schedule = make_schedule(optimizer, self.recipe, steps)
            optimizer.register_step_post_hook(lambda *_: schedule.step())  # the Trainer knows no schedules
            return optimizer

    class DataModule(d2l.DataModule):
        """Fashion-MNIST from our tensors, in the book's clothes."""

        def __init__(
            self, data: FashionMNIST, batch_size: int, image_size: int, augment: str, to_report: bool, seed: int
        ) -> None:
            super().__init__(num_workers=0)
            self.data, self.batch_size, self.image_size = data, batch_size, image_size
            self.train, self.val = (data.all_train, data.test) if to_report else (data.train, data.validation)
            self.loaders = {
                True: _Loader(self.train, batch_size, image_size, augment, seed),
                False: _Loader(self.val, batch_size, image_size, "none", None),
            }

        def get_dataloader(self, train: bool) -> _Loader:
            return self.loaders[bool(train)]

        def text_labels(self, indices: Sequence[int]) -> list[str]:
            return [self.data.classes[int(i)] for i in indices]

        def visualize(
            self, batch: Sequence[Tensor], nrows: int = 1, ncols: int = 8, labels: Sequence[str] = ()
        ) -> None:
            images, numbers = batch
            words = list(labels) or self.text_labels(numbers)
            d2l.show_images(images.squeeze(1).cpu(), nrows, ncols, titles=words)

    return SimpleNamespace(Classifier=Classifier, DataModule=DataModule)


class _Loader:
    """Batches of images (B, 1, S, S) and labels (B,), as often as it is gone through; shuffled if there is a seed."""

    def __init__(self, images: Images, batch_size: int, image_size: int, augment: str, seed: int | None) -> None:
        self.images, self.batch_size, self.image_size, self.augment = images, batch_size, image_size, augment
        self.is_shuffled = seed is not None
        if self.is_shuffled:
            self.orders = self._orders(seed)
            self.augmenting = torch.Generator(images.device).manual_seed(seed)

    def _orders(self, seed: int) -> Iterator[list[Tensor]]:
        """An epoch's numbers after the other's, for ever: the ones that `fit` would take."""
        steps = len(self)
        numbers = shuffled(self.images, Recipe(epochs=10**9, batch_size=self.batch_size), seed)
        while True:
            yield [next(numbers) for _ in range(steps)]

    def __len__(self) -> int:
        """Batches in an epoch."""
        if self.is_shuffled:
            return max(1, len(self.images) // self.batch_size)
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.is_shuffled:
            options = {"augment": self.augment, "generator": self.augmenting}
            parts: Sequence[Tensor | slice] = next(self.orders)
        else:
            options = {}
            parts = [slice(i * self.batch_size, (i + 1) * self.batch_size) for i in range(len(self))]
        for index in parts:
            yield self.images.batch(index, image_size=self.image_size, **options)


# --- the book's, in our `fit` -----------------------------------------------------------------------------------------


def from_book(model: nn.Module, input_shape: tuple[int, int, int] = (1, 28, 28), *, init: bool = True) -> nn.Module:
    """A network of the book (`d2l.LeNet()`), ready for `fit`, `evaluate` and `profile`: the same object.

    The book's layers are Lazy: they learn their shapes from the first image of (channels, height, width), so one of
    zeros is sent through. init: draw the weights as the book does it for convolutional networks (Glorot's uniform).

    Raises ValueError for what is no network or no such shape, or with the layer's name if the network can't take such
    an image: then make it anew, because its first layers have taken on that shape.
    """
    of_kind("model", model, nn.Module, "d2l.LeNet()")
    input_shape, d2l = image_shape("input_shape", input_shape), import_d2l()
    with keeping_modes(model), torch.no_grad(), layers_named(model):
        model.eval()(torch.zeros(1, *input_shape))
    if init:
        model.apply(d2l.init_cnn)
    model.input_shape = input_shape
    return model


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy all weights from one network into another that has the same layers, whatever they are called.

    By order: the first weight into the first. Raises ValueError, before anything is copied, at the first two that don't
    fit.
    """
    for name, model in (("source", source), ("target", target)):
        of_kind(name, model, nn.Module, "build(LENET_BOOK)")
        check_not_lazy(model)
    theirs, ours = source.state_dict(), target.state_dict()
    for (name, values), (other, into) in zip(theirs.items(), ours.items(), strict=False):
        if values.shape != into.shape:
            raise ValueError(
                f"the networks must have the same layers in the same order, but {name} is {tuple(values.shape)} in the "
                f"source and {other} is {tuple(into.shape)} in the target"
            )
    if len(theirs) != len(ours):
        raise ValueError(
            f"the networks must have the same layers, but the source has {len(theirs)} tensors of weights and the "
            f"target {len(ours)}"
        )
    with torch.no_grad():
        for values, into in zip(theirs.values(), ours.values(), strict=True):
            into.copy_(values)
