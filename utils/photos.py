"""Photographs, one's own too: opened as RGB and upright, and what a network with published weights takes them for."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor, nn

from utils.checks import of_kind, shown, tuple_of, whole
from utils.faults import TOO_LARGE, layers_named, memory_named, not_finite_in
from utils.modes import keeping_modes
from utils.words import sentence

if TYPE_CHECKING:
    from ipywidgets import VBox
    from torchvision.models import WeightsEnum

Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image"

LONGEST = 20  # times as long as wide: torchvision enlarges the short side to 256 pixels, and the long one with it
HINT = "JPEG, PNG, GIF or WebP, at most 10 MB at a time. Where more breaks the connection, run this cell again."
# How files begin that students take for photographs: what each is, and what to do.
NO_PHOTOS = (
    (rb"^.{4}ftyp(hei|hev|mif1|msf1)", "is HEIC, as iPhones write it: export it as JPEG, or take a screenshot of it"),
    (rb"^.{4}ftyp", "is a film: take a screenshot of it"),
    (rb"^%PDF", "is a PDF: take a screenshot of the page"),
    (rb"(?i)<svg", "is an SVG drawing: export it as PNG"),
    (rb"(?i)^\s*<(!doctype )?html", "is a web page, not the picture on it: save the picture itself"),
    (rb"^PK\x03\x04", "is a ZIP archive or an office document: take the picture out of it"),
)


class PhotoError(ValueError):
    """A photograph can't be used; the message says what was found, and what to do."""


@dataclass(frozen=True)
class Prediction:
    """What a network takes one photograph for, and what it saw of it."""

    top: tuple[tuple[str, float], ...]  # class and probability (a share), the likeliest first
    seen: Image.Image = field(repr=False)  # RGB: resized and cropped, before the colours were normalised

    @property
    def label(self) -> str:
        """The likeliest class."""
        return self.top[0][0]

    @property
    def probability(self) -> float:
        """Of the likeliest class, a share."""
        return self.top[0][1]


# --- to open one ------------------------------------------------------------------------------------------------------


def example_photo() -> Image.Image:
    """A photograph that needs no download: Grace Hopper, 512 pixels wide and 600 high. matplotlib brings it along.

    The U.S. Navy's official portrait of Commodore Hopper, who wrote one of the first compilers, of 20 January 1984; it
    is in the public domain (commons.wikimedia.org/wiki/File:Grace_Hopper.jpg). "military uniform" is one of ImageNet's
    classes. Raises FileNotFoundError if matplotlib was installed without its sample data.
    """
    from matplotlib.cbook import get_sample_data

    try:
        return open_photo(get_sample_data("grace_hopper.jpg", asfileobj=False))
    except PhotoError as error:
        raise FileNotFoundError(
            f"the example photograph comes with matplotlib, and it is not there.\n"
            f"  found: {error}\n"
            f'  to do: install matplotlib from PyPI or conda-forge; or open one of your own, open_photo("cat.jpg")'
        ) from error


def open_photo(source: Source, name: str = "") -> Image.Image:
    """The photograph as RGB: upright (by its EXIF data), on white where it is transparent, of an animation the first
    frame. What else the file holds, such as the place where it was taken, is left behind.

    source: a path, a file's bytes, a file opened with "rb", or a picture of Pillow's. Grey of 16 bits becomes 8; grey
    in floating point is stretched from its darkest to its brightest. name: what to call it, if it isn't to be used.

    Raises PhotoError for what isn't a photograph that Pillow can read, ValueError for another kind of source.
    """
    if isinstance(source, Image.Image):
        if 0 in source.size:
            raise PhotoError(f"a photograph must have pixels, got a picture of {source.width}×{source.height}")
        return _upright_rgb(source)
    stream, own_name = _opened(source)
    name = name or own_name
    with stream, warnings.catch_warnings():
        # Pillow warns of as many pixels as a good phone has (108 million), and refuses twice its limit: that holds.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(stream) as image:
                return _upright_rgb(image)
        except Image.DecompressionBombError as error:
            limit = 2 * Image.MAX_IMAGE_PIXELS / 1e6
            raise PhotoError(
                f"a photograph must have at most {limit:.0f} million pixels, got more in {name}: make it smaller first"
            ) from error
        except UnidentifiedImageError as error:
            raise PhotoError(_no_photo(stream, name)) from error
        except MemoryError:
            raise
        except Exception as error:  # a damaged file makes Pillow's readers raise errors of nearly any kind
            raise PhotoError(
                f"a photograph must be whole, got {name}, which is cut off or damaged "
                f"({error or type(error).__name__}): copy it again, or open it in another program and save it as PNG"
            ) from error


def _opened(source: Any) -> tuple[IO[bytes], str]:
    """A stream of the file's bytes that can be closed, and what to call it in a message."""
    if isinstance(source, (str, os.PathLike)):
        return _opened_file(source)
    if hasattr(source, "read"):
        name = getattr(source, "name", None)
        content, name = source.read(), Path(name).name if isinstance(name, str) and name else "a file object"
        if isinstance(content, str):
            raise ValueError(f'{name} must be opened as bytes, got text: open it with open(path, "rb")')
    elif isinstance(source, (bytes, bytearray, memoryview)):
        content, name = bytes(source), "bytes"
    else:
        raise ValueError(
            f"a photograph must be a path, a file's bytes, an open file or a picture of Pillow's, got {shown(source)}: "
            f"make a picture of an array (H, W, 3) of bytes with PIL.Image.fromarray"
        )
    return BytesIO(content), name


def _opened_file(source: str | os.PathLike[str]) -> tuple[IO[bytes], str]:
    if re.match(r"(?i)https?://", str(source)):
        raise PhotoError(
            f"a photograph must be a file on this machine, got the web address {source}: save the picture, then open it"
        )
    path = Path(source).expanduser()
    try:
        if path.is_dir():
            raise PhotoError(f"a photograph must be a file, got the folder {path}: choose {_files_in(path)}")
        return path.open("rb"), path.name
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PhotoError(f"there is no file {path}: {_near(path)}") from error
    except (OSError, ValueError) as error:  # not ours to read; no name that a file can have
        if isinstance(error, PhotoError):
            raise
        raise PhotoError(f"{path} cannot be opened ({error}): choose another file") from error


def _files_in(folder: Path) -> str:
    """Some of the pictures in it, for a message."""
    Image.init()
    names = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in Image.EXTENSION)
    return f"one in it, such as {' or '.join(names[:3])}" if names else "another, there are no pictures in it"


def _near(path: Path) -> str:
    """What to do about a path that doesn't exist, in words: the names that it may have been meant for."""
    if not path.parent.is_dir():
        return f"there isn't even the folder {path.parent}; the notebook looks from {Path.cwd()}"
    names = {file.name.lower(): file.name for file in path.parent.iterdir()}
    near = [names[name] for name in get_close_matches(path.name.lower(), names, n=3)]
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"copy it into {path.parent.resolve()} first, or choose it with photo_upload"


def _no_photo(stream: IO[bytes], name: str) -> str:
    """The message for a file that Pillow doesn't know."""
    stream.seek(0)
    head = stream.read(1024)
    expected = "a photograph must be an image file (JPEG, PNG, GIF, WebP …)"
    if not head:
        return f"{expected}, got nothing in {name}, 0 bytes: copy it again; if it is an open file, open it anew"
    for beginning, found in NO_PHOTOS:
        if re.search(beginning, head, re.DOTALL):
            return f"{expected}, but {name} {found}"
    return f"{expected}, got {name}, which begins with {head[:12]!r}: open it in another program and save it as PNG"


def _upright_rgb(image: Image.Image) -> Image.Image:
    image = _in_eight_bits(ImageOps.exif_transpose(image))
    is_transparent = image.has_transparency_data
    image = image.convert("RGBA" if is_transparent else "RGB")
    page = Image.new("RGB", image.size, "white")
    page.paste(image, mask=image if is_transparent else None)
    return page


def _in_eight_bits(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits as grey of 8: Pillow's own conversion takes all that is above 255 for white."""
    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    low, high = float(values.min()), float(values.max())
    if image.mode.startswith("I;16"):
        low, high = 0, 65_535
    elif image.mode == "I":  # of 32 bits, in which most programs write fewer
        low, high = 0, next((most for most in (255, 65_535) if high <= most), high)
    scaled = (values - low) / (high - low or 1)
    return Image.fromarray((255 * scaled.clip(0, 1)).round().astype(np.uint8))


# --- to classify it ---------------------------------------------------------------------------------------------------


def classify(net: nn.Module, photos: Sequence[Source], weights: WeightsEnum | str, *, top: int = 5) -> list[Prediction]:
    """What `net` takes each of `photos` for: its `top` likeliest classes. They are prepared as torchvision says that
    `weights` want it, one at a time; the net stays on its device, and its mode is put back.

    photos: whatever `open_photo` opens. weights: those that the net was loaded with, torchvision's enum member or its
    full name, "VGG11_BN_Weights.IMAGENET1K_V1": how to prepare a photograph and the classes' names come from there.

    Raises ValueError for a net that doesn't fit the weights, PhotoError for a photograph that can't be used.
    """
    weights = _member(weights)
    of_kind("net", net, nn.Module, "vgg11_bn(weights=weights)")
    classes, prepare = weights.meta["categories"], weights.transforms()
    whole("top", top, least=1)
    if top > len(classes):
        raise ValueError(f"top must be at most {len(classes)}, the number of classes, got {top}")
    if isinstance(photos, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)):
        raise ValueError(f"photos must be a list of them, got one, {shown(photos)}: write [photo]")
    opened = [_not_too_long(open_photo(photo), i) for i, photo in enumerate(tuple_of("photos", photos))]

    with keeping_modes(net):
        net.eval()
        return [_predict(net, prepare, photo, classes, top) for photo in opened]


def _member(weights: Any) -> WeightsEnum:
    from torchvision.models import WeightsEnum, get_weight

    try:
        member = get_weight(weights) if isinstance(weights, str) else weights
    except (ValueError, KeyError):
        member = None
    if not isinstance(member, WeightsEnum) or "categories" not in member.meta:
        raise ValueError(
            f"weights must be a member of one of torchvision's enums for classification or its full name, such as "
            f"'VGG11_BN_Weights.IMAGENET1K_V1', got {shown(weights)}"
        )
    return member


def _not_too_long(photo: Image.Image, number: int) -> Image.Image:
    short, long = sorted(photo.size)
    if long > LONGEST * short:
        raise PhotoError(
            f"photos[{number}] must be less than {LONGEST} times as long as wide, got {photo.width} × {photo.height} "
            f"pixels: crop it"
        )
    return photo


def _predict(
    net: nn.Module, prepare: Callable[[Image.Image], Tensor], photo: Image.Image, classes: Sequence[str], top: int
) -> Prediction:
    like = next((p for p in net.parameters() if p.is_floating_point()), torch.zeros(()))
    if like.is_meta:
        raise ValueError("net must have weights, got one on the meta device, which has shapes only: build it anew")
    prepared = prepare(photo)  # (3, H, W), normalised
    with torch.inference_mode(), layers_named(net), memory_named("while a photograph was classified", TOO_LARGE):
        scores = net(prepared.unsqueeze(0).to(like.device, like.dtype))  # (1, classes)
        _check(scores, net, len(classes))
        shares = scores[0].cpu().double().softmax(dim=0)
    probabilities, numbers = (part.tolist() for part in shares.topk(top))
    likeliest = ((classes[number], share) for number, share in zip(numbers, probabilities, strict=True))
    return Prediction(tuple(likeliest), _as_seen(prepared, prepare))


def _check(scores: Any, net: nn.Module, num_classes: int) -> None:
    found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
    if found != (1, num_classes):
        raise ValueError(
            f"net must give a score for each of the weights' {num_classes} classes, (1, {num_classes}), got {found}: "
            f"take the network that belongs to the weights"
        )
    if not bool(scores.isfinite().all()):
        cause = not_finite_in(net) or "its numbers grow too large on the way"
        raise ValueError(f"net's scores must be finite, got some that are not ({cause}): load the weights anew")


def _as_seen(prepared: Tensor, prepare: Any) -> Image.Image:
    """The prepared picture (3, H, W), its colours put back."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (prepare.mean, prepare.std))
    pixels = (255 * (prepared * std + mean)).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


# --- to upload one ----------------------------------------------------------------------------------------------------


def photo_upload(on_photo: Callable[[Image.Image], Any]) -> VBox:
    """A button that uploads photographs, and below it what `on_photo(photo)` displays, prints or returns for each.

    A file that is no photograph is refused there in words, and the button works on. An error in `on_photo` is shown
    there too, and raised once all photographs have had their turn.
    """
    from ipywidgets import FileUpload, HBox, Label, Layout, Output, VBox

    class PhotoUpload(VBox):
        def __repr__(self) -> str:  # what is left of it where nothing runs
            return "PhotoUpload: run this cell to choose photographs of your own."

    if not callable(on_photo):
        raise ValueError(f"on_photo must be a function of one photograph, got {shown(on_photo)}: pass its name, no ()")
    output, line, hint, layout = Output(), HBox(), Label(HINT), Layout(width="auto", min_width="10em")

    def renew_button() -> None:
        # A new one each time: the same file can be uploaded again (a value that doesn't change tells nobody), in
        # ipywidgets 7 as in 8, and the last photographs aren't kept in memory.
        button = FileUpload(accept="image/*", multiple=True, description="Upload photos", layout=layout)
        button.observe(answer, names="value")
        old, line.children = line.children[:1], (button, hint)
        for widget in old:
            widget.close()

    def answer(change: Mapping[str, Any]) -> None:
        renew_button()
        output.clear_output()
        _show_each(uploaded(change["new"]), on_photo, output)

    renew_button()
    return PhotoUpload((line, output))


def uploaded(value: Mapping[str, Mapping] | Iterable[Mapping]) -> list[tuple[str, bytes]]:
    """Name and content of each file in a `FileUpload.value`: a dict by name in ipywidgets 7, a tuple of dicts in 8."""
    files = value.items() if isinstance(value, Mapping) else ((file["name"], file) for file in value)
    return [(name, bytes(file["content"])) for name, file in files]


def _show_each(files: Iterable[tuple[str, bytes]], on_photo: Callable[[Image.Image], Any], output: Any) -> None:
    from IPython.display import display

    errors: list[Exception] = []
    for name, content in files:
        with output:  # shows an error and, in a notebook, ends it here
            try:
                result = on_photo(open_photo(content, name))
                if result is not None:
                    display(result)
            except PhotoError as error:
                print(sentence(f"{error}"))
            except Exception as error:
                errors.append(error)
                raise
    if errors:
        raise errors[0]
