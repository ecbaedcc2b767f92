"""What the feature-map viewer looks into: a network with its convolutions, and the images that go through it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn

from utils.checks import dict_of, shown, tuple_of
from utils.data import CLASSES, FashionMNIST, Images
from utils.excitation import (
    ConvLayer,
    Excitations,
    batch_size,
    conv_layers,
    excitations,
    images_to_search,
    maps_of,
    parts_of,
    probabilities,
    version_of,
)
from utils.faults import check_not_lazy, check_numbers
from utils.inputs import Pictures, data_pictures, photo_pictures
from utils.photos import PhotoError, Source, example_photo
from utils.plots.photos import percent

EXAMPLE = '{"LeNet": net}'
TOP = 3  # classes that are named


@dataclass
class Subject:
    """A network with its convolutions, the images that one looks at, and those that are searched (or None).

    What was computed is kept for as long as the weights are the same.
    """

    name: str
    net: nn.Module
    input_shape: tuple[int, int, int]
    layers: tuple[ConvLayer, ...]
    looked_at: Pictures
    searched: Callable[[int], Pictures] | None
    classes: Sequence[str] | None
    _kept: dict[Any, Any] = field(default_factory=dict)
    _version: Any = None

    def layer(self, number: int) -> ConvLayer:
        """Convolution `number`, from 1."""
        return self.layers[number - 1]

    def reading(self, number: int, is_after: bool) -> str:
        """Where the numbers are read, in words: `after ReLU`."""
        layer = self.layer(number)
        if layer.activation is None:
            return "no activation follows"
        return f"{'after' if is_after else 'before'} {layer.activation}"

    def maps(self, number: int, is_after: bool, key: Any, image: Tensor) -> np.ndarray:
        """(C, h, w) of one image (1, channels, S, S). key: what tells it from others."""
        layer = self.layer(number)
        tap = layer.after if is_after else layer.before
        return self._once(("maps",), (key, tap), lambda: maps_of(self.net, tap, image)[0].cpu().numpy())

    def says(self, key: Any, image: Tensor) -> tuple[str, ...]:
        """What the network takes the image for, the likeliest first: `LeNet: Sneaker 98.2 %`."""
        return self._once(("says",), key, lambda: self._says(image))

    def _says(self, image: Tensor) -> tuple[str, ...]:
        shares = probabilities(self.net, image)
        if shares is None:
            return (f"{self.name} gives no scores for classes.",)
        best, numbers = shares[0].topk(min(TOP, shares.shape[1]))
        classes = self.classes if self.classes and len(self.classes) == shares.shape[1] else None
        names = [classes[i] if classes else f"class {i}" for i in numbers.tolist()]
        lines = [f"{name} {percent(share)}" for name, share in zip(names, best.tolist(), strict=True)]
        return (f"{self.name}: {lines[0]}", *lines[1:])

    def is_searched(self, number: int, is_after: bool) -> bool:
        """Is it known already what excites this layer?"""
        self._forget_if_trained()
        return ("found", number, is_after) in self._kept

    def found(self, number: int, is_after: bool) -> tuple[Excitations, Pictures] | None:
        """What excites the layer, and the images that were searched; None if there are none."""
        if self.searched is None:
            return None
        return self._once(("found", number, is_after), None, lambda: self._search(self.layer(number), is_after))

    def _search(self, layer: ConvLayer, is_after: bool) -> tuple[Excitations, Pictures]:
        device = next((p.device for p in self.net.parameters()), "cpu")
        pictures = self.searched(images_to_search(layer, device))
        batches = (pictures.batch(part) for part in parts_of(len(pictures), batch_size(layer)))
        return excitations(self.net, layer.after if is_after else layer.before, batches), pictures

    def _once(self, place: tuple, key: Any, compute: Callable[[], Any]) -> Any:
        """What stands at `place`, if it stands there for `key`; or else it is computed, and put there."""
        self._forget_if_trained()
        if place not in self._kept or self._kept[place][0] != key:
            self._kept[place] = key, compute()
        return self._kept[place][1]

    def _forget_if_trained(self) -> None:
        if (version := version_of(self.net)) != self._version:
            self._kept.clear()
            check_numbers(self.net)
            self._version = version


def subjects_of(
    nets: Mapping[str, nn.Module] | nn.Module,
    data: FashionMNIST | Images | None,
    photos: Mapping[str, Source] | Sequence[Source] | None,
    classes: Sequence[str] | None,
) -> dict[str, Subject]:
    """The networks by name, each with its images: grey ones look at the data, the others at photographs.

    Raises ValueError, with the network's name, for one that doesn't fit its images.
    """
    if isinstance(nets, nn.Module):
        nets = {"the network": nets}
    dict_of("nets", nets, nn.Module, EXAMPLE)
    if data is not None and not isinstance(data, (FashionMNIST, Images)):
        raise ValueError(
            f"data must be Fashion-MNIST, load_fashion_mnist(), or a part of it such as data.train, got {shown(data)}"
        )
    if classes is not None:
        classes = tuple(map(str, tuple_of("classes", classes)))
    found = {}
    for name, net in nets.items():
        try:
            found[f"{name}"] = _subject(f"{name}", net, data, photos, classes)
        except PhotoError:
            raise
        except ValueError as error:
            raise ValueError(f"{name} can't be looked into: {error}") from error
    return found


def _subject(name: str, net: nn.Module, data: Any, photos: Any, classes: Sequence[str] | None) -> Subject:
    check_not_lazy(net)
    check_numbers(net)
    shape = input_shape_of(net)
    if shape[0] not in (1, 3):
        raise ValueError(f"it must take grey images (1 channel) or colour ones (3), got one for {shape[0]} channels")
    layers = conv_layers(net, shape)
    if shape[0] == 1 and data is not None:
        classes = classes or CLASSES
        looked_at, searched = _of_data(data, shape, classes)
        return Subject(name, net, shape, layers, looked_at, searched, classes)
    if photos is None and data is not None:
        raise ValueError(
            "it takes images of 3 channels, and the data's have 1: give it photographs, photos=[…], or take a network "
            "that was built with in_channels=1"
        )
    if photos is None and shape[0] == 1:
        raise ValueError("it takes grey images, and there are none: give the data, feature_viewer(net, data)")
    looked_at = photo_pictures({"Grace Hopper": example_photo()} if photos is None else photos, shape)
    searched = None if photos is None else looked_at.first
    return Subject(name, net, shape, layers, looked_at, searched, classes or _imagenet_classes(shape))


def input_shape_of(net: nn.Module) -> tuple[int, int, int]:
    """One image's (channels, height, width): what `build` made the network for; or else 28×28 grey, 224×224 in colour,
    by what the first convolution takes."""
    if (shape := getattr(net, "input_shape", None)) is not None:
        return shape
    first = next((layer for layer in net.modules() if isinstance(layer, nn.Conv2d)), None)
    channels = first.in_channels if first else 1
    return (channels, 28, 28) if channels == 1 else (channels, 224, 224)


def _of_data(
    data: FashionMNIST | Images, shape: tuple[int, int, int], classes: Sequence[str]
) -> tuple[Pictures, Callable[[int], Pictures]]:
    """The images to look at, and a function that gives so many to search."""
    is_whole = isinstance(data, FashionMNIST)
    to_look_at, to_search = (data.validation, data.train) if is_whole else (data, data)
    kinds = ("validation images", "training images") if is_whole else ("images", "images")

    def searched(most: int) -> Pictures:
        some = to_search.take(min(most, len(to_search)))
        total = f"of the {len(to_search):,} " if len(some) < len(to_search) else ""
        return data_pictures(some, shape, classes, f"{total}{kinds[1]}")

    return data_pictures(to_look_at, shape, classes, kinds[0]), searched


def _imagenet_classes(shape: tuple[int, int, int]) -> Sequence[str] | None:
    """Of a network in colour. `Subject` names them only where there are as many scores."""
    if shape[0] != 3:
        return None
    from torchvision.models import VGG11_Weights

    return VGG11_Weights.IMAGENET1K_V1.meta["categories"]
