"""What goes into a network, and what a person sees of it: the data's images and photographs alike.

A photograph becomes what the network was made for: grey, square and small as Fashion-MNIST's images, or as torchvision
prepares it for weights that were trained on ImageNet.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from utils.checks import image_shape, some_of
from utils.data import MEAN, SIDE, STD, Images
from utils.photos import LONGEST, Source, open_photo

PHOTOS = "photos"  # a kind of pictures
RIM = 0.1  # of a photograph's side: there one sees the background


@dataclass(frozen=True)
class Pictures:
    """Images as a network takes them.

    batch: of a slice, (n, channels, S, S) float32, normalised. names: what each of them shows. kind: what they are, in
    the plural: "training images". mean, std: of each channel, by which they were normalised.
    """

    batch: Callable[[slice], Tensor]
    names: tuple[str, ...]
    kind: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def counted(self) -> str:
        """`2,000 of the 55,000 training images`, `1 photo`."""
        is_part = self.kind.startswith("of ")
        return f"{len(self):,} {self.kind if len(self) > 1 or is_part else self.kind.removesuffix('s')}"

    def title(self, number: int) -> str:
        """What to write over image `number`: a photograph has a name of its own, an image of the data a class."""
        return self.names[number] if self.kind == PHOTOS else f"image {number}: {self.names[number]}"

    def first(self, most: int) -> Pictures:
        """The first `most` of them, or all if there are no more; `kind` then says of how many."""
        if most >= len(self):
            return self
        return replace(self, names=self.names[:most], kind=f"of the {len(self):,} {self.kind}")

    def one(self, number: int) -> Tensor:
        """Image `number`: (1, channels, S, S)."""
        return self.batch(slice(number, number + 1))

    def pixels(self, number: int) -> np.ndarray:
        """Image `number` as a person sees it: (S, S) or (S, S, 3) uint8."""
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        colours = (255 * (self.one(number)[0].cpu() * std + mean)).round().clamp(0, 255).to(torch.uint8)
        return (colours[0] if len(colours) == 1 else colours.permute(1, 2, 0)).numpy()


def data_pictures(images: Images, input_shape: tuple[int, int, int], classes: Sequence[str], kind: str) -> Pictures:
    """Images of the data as a network takes them, each named by its class. ValueError if they aren't grey, or none."""
    channels, size, _ = image_shape("input_shape", input_shape)
    if channels != 1:
        raise ValueError(
            f"the network takes images of {channels} channels, and the data's have 1: give photos=[…] for it, or a "
            f"network that was built with in_channels=1"
        )
    if not len(images):
        raise ValueError(f"{kind} must be at least one, got none")
    names = tuple(classes[label] if label < len(classes) else f"class {label}" for label in images.labels.tolist())
    return Pictures(lambda part: images.batch(part, image_size=size)[0], names, kind, (MEAN,), (STD,))


def photo_pictures(
    photos: Mapping[str, Source] | Sequence[Source], input_shape: tuple[int, int, int], *, invert: bool = False
) -> Pictures:
    """Photographs as a network for images of `input_shape` takes them. Their names: the dict's, or the files'.

    1 channel: see `as_fashion`. 3 channels: as torchvision prepares them for its weights of AlexNet and VGG, whose
    crop of 224 pixels comes from 256. invert: dark is light first. Raises PhotoError for what isn't a photograph.
    """
    channels, size, _ = image_shape("input_shape", input_shape)
    if channels not in (1, 3):
        raise ValueError(f"a photograph has 1 channel (grey) or 3 (colour), and the network takes {channels}")
    named = photos if isinstance(photos, Mapping) else _named(some_of("photos", photos, '"cat.jpg"'))
    opened = [ImageOps.invert(photo) if invert else photo for photo in map(open_photo, named.values())]
    if channels == 1:
        pixels = torch.cat([as_fashion(photo) for photo in opened])
        images = Images(pixels, torch.zeros(len(pixels), dtype=torch.int64))
        return Pictures(lambda part: images.batch(part, image_size=size)[0], tuple(named), PHOTOS, (MEAN,), (STD,))
    prepare = _imagenet(size)
    ready = torch.stack([prepare(_not_too_long(photo)) for photo in opened])
    return Pictures(lambda part: ready[part], tuple(named), PHOTOS, tuple(prepare.mean), tuple(prepare.std))


def as_fashion(photo: Image.Image) -> Tensor:
    """A photograph as one of Fashion-MNIST's images, (1, 1, 28, 28) uint8: grey, its middle cut out, and made small."""
    grey = ImageOps.fit(photo.convert("L"), (SIDE, SIDE), Image.Resampling.BOX)
    return torch.from_numpy(np.array(grey))[None, None]


def has_light_background(photo: Image.Image) -> bool:
    """Is the rim of its middle square light? Fashion-MNIST's garments lie on black."""
    grey = np.asarray(ImageOps.fit(photo.convert("L"), (100, 100), Image.Resampling.BOX))
    width = round(RIM * len(grey))
    rim = np.ones_like(grey, dtype=bool)
    rim[width:-width, width:-width] = False
    return bool(np.median(grey[rim]) > 127)


def _named(photos: Sequence[Source]) -> dict[str, Source]:
    """Each by its file's name, or its number; a name that is there already gets the number, too."""
    named: dict[str, Source] = {}
    for number, photo in enumerate(photos, start=1):
        name = Path(photo).name if isinstance(photo, (str, os.PathLike)) else f"photo {number}"
        own, free = number, name
        while free in named:
            free, own = f"{name} ({own})", own + 1
        named[free] = photo
    return named


def _imagenet(size: int) -> Callable[[Image.Image], Tensor]:
    from torchvision.models import VGG11_Weights

    # All of torchvision's weights for AlexNet and VGG share this preparation but for the size.
    return VGG11_Weights.IMAGENET1K_V1.transforms(crop_size=size, resize_size=round(size * 256 / 224))


def _not_too_long(photo: Image.Image) -> Image.Image:
    """Its middle, if it is so long that torchvision would enlarge it beyond all measure."""
    short, long = sorted(photo.size)
    return photo if long <= LONGEST * short else ImageOps.fit(photo, (short, short))
