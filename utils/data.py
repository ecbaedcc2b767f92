"""Fashion-MNIST as tensors: all of it as uint8 on the device, where batches are picked, augmented and normalised.

    data = load_fashion_mnist(device="cuda")
    x, y = data.train.batch(torch.arange(128), image_size=32)      # (128, 1, 32, 32) float32, (128,) int64

`load_fashion_mnist` looks for the data in one place after another and says what it found. Nothing is used before the
SHA-256 of each of its four files has been checked.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import queue
import secrets
import shutil
import struct
import subprocess
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import ClassVar
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import torch
from torch.nn import functional as F

from utils.checks import with_tilde
from utils.device import device_named

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
MEAN, STD = 0.2860, 0.3530  # of the 60,000 training images' pixels, scaled to 0 … 1
SIDE = 28  # pixels
MAX_SHIFT = 2  # pixels of the original image
AUGMENTATIONS = ("none", "flip", "flip+shift")

# Size in bytes and SHA-256 of each file, decompressed: the compressed ones differ from one source to the next.
# Taken from Debian's package; with Zalando's gzip headers (names, and dates of 2017-08-31) in place of Debian's, its
# four files have the MD5 sums that torchvision expects.
FILES = {
    "train-images-idx3-ubyte": (47_040_016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    "train-labels-idx1-ubyte": (60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    "t10k-images-idx3-ubyte": (7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    "t10k-labels-idx1-ubyte": (10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
}
SAMPLE_FILES = {  # written, and printed, by tools/make_sample.py
    "train-images-idx3-ubyte": (4_704_016, "acd8d9c9335beee024db77601eca626e8e8718358bfcb9a8b15c7ec9c701d9a3"),
    "train-labels-idx1-ubyte": (6_008, "e8840be7fc7e4dcc258e924070ee134376be77548b5e749131c8dcfcb483f3a9"),
    "t10k-images-idx3-ubyte": (784_016, "14e0d0dff6c81cfad74626a5637a6ca2c697ddd2d9668b0ae06e7a8011db631a"),
    "t10k-labels-idx1-ubyte": (1_008, "8b1c8f2e21c0e551e24b89022acd8cfe5aa410fe80935c0a3b17b4e95d6295fb"),
}

PACKAGE = "dataset-fashion-mnist"  # of Debian and Ubuntu
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where that package puts the files
SAMPLE_FOLDER = Path(__file__).parent / "sample" / "fashion-mnist"
HAS_SYSTEM_FOLDER = os.name == "posix"  # on Windows there is neither such a place nor apt-get
NETWORK_TIMEOUT = 15  # seconds without a byte
# A line that drips never times out. This bounds the whole download: at 10 kB/s the 31 MB take 52 minutes, which is as
# long as a lesson. It is asked of every half minute, so that a line may falter, and a fast beginning excuses nothing.
SLOWEST, PERIOD = 10_000, 30  # bytes a second, seconds
STALE = 3600  # seconds: nobody writes one file for an hour

Report = Callable[[str], object]


class DataError(RuntimeError):
    """A file of the data is missing, truncated, corrupt or another one than it should be."""


class _Unavailable(Exception):
    """This source can't give the data; the message says why. The next one is tried."""


# --- images -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class Images:
    """Labelled grey images, all on one device: `pixels` (N, 1, 28, 28) uint8, `labels` (N,) int64."""

    pixels: torch.Tensor
    labels: torch.Tensor

    def __post_init__(self) -> None:
        found = [(x.dtype, tuple(x.shape), x.device) for x in (self.pixels, self.labels)]
        n, device = self.labels.numel(), self.pixels.device
        if found != [(torch.uint8, (n, 1, SIDE, SIDE), device), (torch.int64, (n,), device)]:
            raise ValueError(
                f"pixels must be (N, 1, {SIDE}, {SIDE}) uint8 and labels (N,) int64, on one device, "
                f"got {' and '.join(f'{shape} {dtype} on {where}' for dtype, shape, where in found)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Images({len(self):,} on {self.device})"

    @property
    def device(self) -> torch.device:
        return self.pixels.device

    def to(self, device: torch.device | str) -> Images:
        """The same images on `device`; shares memory where they are there already. ValueError if it isn't here."""
        device = device_named(device, or_meta=True)
        return Images(self.pixels.to(device), self.labels.to(device))

    def take(self, n: int, *, seed: int = 0) -> Images:
        """`n` of the images at random, each class with the share that it has here (to within one image).

        A smaller take with the same seed is the beginning of a larger one, so that "more data" adds and never swaps.
        """
        if not isinstance(n, int) or not 1 <= n <= len(self):
            raise ValueError(f"n must be a whole number from 1 to {len(self):,}, the number of images here, got {n!r}")
        labels = self.labels.cpu()
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        shuffled = labels[order]
        # Image k of a class of c stands at (k + ½)/c of the way: whoever takes a stretch of the way takes that share
        # of each class.
        position = (_rank_in_class(shuffled) + 0.5) / shuffled.bincount()[shuffled]
        chosen = order[position.argsort(stable=True)[:n]].to(self.device)
        return Images(self.pixels[chosen], self.labels[chosen])

    def batch(
        self,
        index: torch.Tensor | slice,
        *,
        image_size: int = SIDE,
        augment: str = "none",
        generator: torch.Generator | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and labels at `index`: (B, 1, S, S) float32, normalised by MEAN and STD, and (B,) int64.

        index: (B,) int64, or a slice.
        image_size: S. 28: as they are. To 36: framed with black, evenly, an odd pixel at the bottom and the right.
            Above: enlarged bilinearly.
        augment: "flip" mirrors each image with probability ½; "flip+shift" also moves it by −2 … 2 of its pixels
            down and to the right, filling with black.
        generator: where the random numbers come from; on any device. None: torch's global one.

        Raises TypeError for any other index, ValueError for any other image_size or augment.
        """
        is_vector = torch.is_tensor(index) and index.dtype == torch.int64 and index.ndim == 1
        if not is_vector and not isinstance(index, slice):
            raise TypeError(f"index must be a slice or a one-dimensional int64 tensor, got {index!r}")
        if not isinstance(image_size, int) or image_size < SIDE:
            raise ValueError(
                f"image_size must be at least {SIDE}, the images' own size, got {image_size!r}: "
                f"for less, have the network reduce it (a stride, a pooling layer)"
            )
        if augment not in AUGMENTATIONS:
            raise ValueError(f"augment must be one of {', '.join(map(repr, AUGMENTATIONS))}, got {augment!r}")

        pixels = self.pixels[index]  # (B, 1, 28, 28) uint8, and so until the end: a quarter of float32's traffic
        if augment != "none":
            pixels = _flip_some(pixels, generator)
        frame = image_size - SIDE if image_size <= 36 else 0
        slack = MAX_SHIFT if augment == "flip+shift" else 0
        before, after = frame // 2 + slack, frame - frame // 2 + slack
        if before or after:
            pixels = F.pad(pixels, (before, after, before, after))
        if slack:
            pixels = _random_windows(pixels, SIDE + frame, generator)
        x = pixels.float().div_(255).sub_(MEAN).div_(STD)
        if x.shape[-1] < image_size:
            x = F.interpolate(x, size=(image_size, image_size), mode="bilinear")
        return x, self.labels[index]  # (B, 1, S, S), (B,)


def _flip_some(pixels: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """Each of the (B, 1, H, W) images, or its mirror image, with probability ½."""
    # Drawn where the generator lives: one on the CPU then gives the same images on every device.
    device = generator.device if generator else pixels.device
    flip = torch.rand(len(pixels), 1, 1, 1, generator=generator, device=device).to(pixels.device) < 0.5
    return torch.where(flip, pixels.flip(-1), pixels)


def _random_windows(pixels: torch.Tensor, size: int, generator: torch.Generator | None) -> torch.Tensor:
    """From each of the (B, 1, H, H) images one (size, size) window, each place as likely: (B, 1, size, size)."""
    windows = pixels.unfold(2, size, 1).unfold(3, size, 1)  # (B, 1, places, places, size, size): a view, no memory
    device = generator.device if generator else pixels.device
    place = torch.randint(windows.shape[2], (2, len(pixels)), generator=generator, device=device).to(pixels.device)
    return windows[torch.arange(len(pixels), device=pixels.device), :, place[0], place[1]]


def _rank_in_class(labels: torch.Tensor) -> torch.Tensor:
    """(N,) int64 → (N,) int64: how many images with the same label come before this one."""
    return F.one_hot(labels).cumsum(0).gather(1, labels[:, None]).squeeze(1) - 1


# --- the data set -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FashionMNIST:
    """Fashion-MNIST (Xiao, Rasul & Vollgraf, arXiv 1708.07747), on one device.

    train: 55,000 images, which are fitted while something is chosen or watched.
    validation: 5,000 images, on which the choice is made: of each class every twelfth image, in the files' order.
    all_train: those 60,000, to fit for a number that is reported. `train` and `validation` are views of it.
    test: 10,000 images, for reporting only.
    source: where it came from, in words.   digest: SHA-256 of all pixels and labels in this order, to key results by.
    is_sample: True for the sample that the project ships: 5,500, 500, 6,000 and 1,000 images.
    """

    train: Images
    validation: Images
    all_train: Images
    test: Images
    source: str
    digest: str
    is_sample: bool
    classes: ClassVar[tuple[str, ...]] = CLASSES


def load_fashion_mnist(
    folder: str | Path | None = None, *, device: torch.device | str = "cpu", report: Report = print
) -> FashionMNIST:
    """Fashion-MNIST, on `device`, from the first of these that has it:

    1. the folder that the environment variable FASHION_MNIST_DIR names: nothing else is tried then
    2. the cache: `folder`, or the user's cache folder; filled from the sources that follow, in torchvision's layout
    3. /usr/share/datasets/fashion-mnist, where Debian's and Ubuntu's package dataset-fashion-mnist puts it
    4. torchvision's download
    5. that package, by `apt-get download`: needs no root
    6. a sample of 6,000 + 1,000 of the images, which the project ships, under a banner

    report: called with a line about each source that was tried.

    Raises ValueError for a device that isn't here, DataError for a file that is there and isn't what it should be,
    wherever it lies. It is left as it is.
    """
    import platformdirs

    raw = Path(folder or platformdirs.user_cache_dir("bigger-and-deeper")).expanduser() / "FashionMNIST" / "raw"
    device = device_named(device)
    whole = _from_named_folder() or _from_cache(raw, report) or _from_sources(raw, report)
    contents, source = whole or _from_sample(report)
    data = _assemble(contents, source, device, is_sample=whole is None)
    report(f"Fashion-MNIST: {len(data.all_train):,} + {len(data.test):,} images from {source}")
    return data


def _assemble(contents: Mapping[str, bytes], source: str, device: torch.device, *, is_sample: bool) -> FashionMNIST:
    train_pixels, train_labels, test_pixels, test_labels = (_parse_idx(contents[name]) for name in FILES)
    # Validation: every twelfth image of each class, moved to the end. No random numbers, so no version of anything
    # changes it; and two slices of one tensor, so that the split costs no memory.
    held_out = _rank_in_class(train_labels) % 12 == 11
    order = torch.cat([(~held_out).nonzero(), held_out.nonzero()]).squeeze(1)
    all_train = Images(train_pixels[order, None], train_labels[order])
    test = Images(test_pixels[:, None], test_labels)

    digest = hashlib.sha256()
    for images in (all_train, test):
        digest.update(images.pixels.numpy())
        digest.update(images.labels.to(torch.uint8).numpy())

    all_train, split = all_train.to(device), len(order) - int(held_out.sum())
    return FashionMNIST(
        train=Images(all_train.pixels[:split], all_train.labels[:split]),
        validation=Images(all_train.pixels[split:], all_train.labels[split:]),
        all_train=all_train,
        test=test.to(device),
        source=source,
        digest=digest.hexdigest(),
        is_sample=is_sample,
    )


def _parse_idx(content: bytes) -> torch.Tensor:
    """An IDX file's array: uint8 (N, 28, 28) for images, int64 (N,) for labels. LeCun's format: 0, 0, type, number of
    dimensions; each dimension as a big-endian int32; the values, here bytes."""
    dimensions = content[3]
    shape = struct.unpack_from(f">{dimensions}I", content, offset=4)
    values = torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=4 + 4 * dimensions).view(shape)
    return values if dimensions > 1 else values.long()


# --- where the files come from: each function gives their contents and says where they lay, or None -------------------


Found = tuple[dict[str, bytes], str] | None


def _from_named_folder() -> Found:
    # In Windows' `set FASHION_MNIST_DIR="C:\my data" && jupyter lab` the quotes and the last space are part of it.
    if not (named := os.environ.get("FASHION_MNIST_DIR", "").strip().strip("'\"")):
        return None
    try:
        folder = Path(named).expanduser()
    except RuntimeError:  # ~name, and there is no such user
        folder = Path(named)
    folder = folder.absolute()  # so that an error says where a relative one was looked for
    raw = next(filter(_present, (folder, folder / "FashionMNIST" / "raw")), folder)
    package = f" (`sudo apt install {PACKAGE}` puts them into {SYSTEM_FOLDER})" if HAS_SYSTEM_FOLDER else ""
    to_do = (
        f"put the right files there{package},\n"
        f"            or unset FASHION_MNIST_DIR, to have them looked for elsewhere"
    )
    return _read_all(raw, to_do), f"{with_tilde(raw)} (FASHION_MNIST_DIR)"


def _from_cache(raw: Path, report: Report) -> Found:
    _sweep(raw, report)
    present = _present(raw)
    # Read even where some are missing: a broken file stops everything here, before anything is fetched.
    to_do = "delete it (its path stands above) and run this again: it is then fetched anew"
    contents = {name: _read(path, FILES[name], to_do) for name, path in present.items()}
    if len(present) == len(FILES):
        if any(path.suffix == ".gz" for path in present.values()):
            _keep(contents, raw, report)  # torchvision and d2l read the decompressed ones only
        return contents, with_tilde(raw)
    why_none = _why_none(raw).replace("no such folder", "not there yet")
    report("Fashion-MNIST: looking for it")
    report("  FASHION_MNIST_DIR: not set")
    report(f"  {with_tilde(raw)}: {f'{len(present)} of {len(FILES)} files' if present else why_none}")
    return None


def _from_sources(raw: Path, report: Report) -> Found:
    """From the first source that has them; they are kept in the cache `raw` for the next time."""
    sources = {"torchvision's download": _from_torchvision}
    if HAS_SYSTEM_FOLDER:
        sources = {str(SYSTEM_FOLDER): _from_system} | sources | {f"apt-get download {PACKAGE}": _from_apt}
    for name, fetch in sources.items():
        try:
            contents = fetch(report)
        except (_Unavailable, OSError) as reason:  # OSError: no temporary folder, or a full disk
            report(f"  {name}: {reason}")
        else:
            report(f"  {name}: all there")
            return contents, f"{name}, kept in {with_tilde(raw)}" if _keep(contents, raw, report) else name
    return None


def _from_sample(report: Report) -> tuple[dict[str, bytes], str]:
    for line in (
        "-" * 100,
        "THIS IS A SAMPLE: 6,000 + 1,000 of Fashion-MNIST's 60,000 + 10,000 images. They are real, but fewer:",
        "networks will be less accurate than the lesson says. To get the rest, do one of these and run this again:",
        "  1. connect to the internet",
        f"  2. sudo apt install {PACKAGE}        (on Debian and Ubuntu)",
        f"  3. put {', '.join(f'{name}.gz' for name in FILES)}",
        "     into a folder, and set the environment variable FASHION_MNIST_DIR to that folder",
        "-" * 100,
    ):
        report(line)
    return _read_all(SAMPLE_FOLDER, f"git checkout -- {SAMPLE_FOLDER}", SAMPLE_FILES), "the project's sample"


def _from_system(report: Report) -> dict[str, bytes]:
    if not _present(SYSTEM_FOLDER):
        raise _Unavailable(_why_none(SYSTEM_FOLDER).replace("no such folder", "not there"))
    return _read_all(SYSTEM_FOLDER, f"sudo apt install --reinstall {PACKAGE}")


def _from_torchvision(report: Report) -> dict[str, bytes]:
    """From where torchvision has it from; not by its code, which waits for ever and doesn't say what went wrong."""
    from torchvision import datasets

    mirrors = datasets.FashionMNIST.mirrors
    report(f"  torchvision's download: 31 MB from {', '.join(mirrors)} …")
    return {name: _from_mirrors(name, mirrors) for name in FILES}


def _from_mirrors(name: str, mirrors: Sequence[str]) -> bytes:
    """The file `name`, from the first mirror that gives it whole; _Unavailable, with what each gave, if none does."""
    reasons = []
    for mirror in mirrors:
        url = f"{mirror}{name}.gz"
        try:
            return _verified(url, _fetch(url, most=FILES[name][0] + 10_000), FILES[name])
        except DataError as error:
            reasons.append(_in_one_line(error))  # which names the URL itself
        except OSError as error:
            reasons.append(f"{url}: {_in_one_line(error)}")
        except HTTPException as error:
            reasons.append(f"{url}: the answer is not HTTP ({_in_one_line(error)})")
        except ValueError as error:  # UnicodeError too: an address, or a proxy's, that is none
            reasons.append(f"{url}: cannot be asked for ({_in_one_line(error)}); is the proxy set right?")
    raise _Unavailable("; ".join(reasons))


def _fetch(url: str, most: int) -> bytes:
    """What lies at `url`. OSError or HTTPException if it doesn't come, comes too slowly, or is over `most` bytes."""
    # Only a thread can be left alone with a name server that is silent, or a header that drips.
    pieces: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
    given_up = threading.Event()
    threading.Thread(target=_receive, args=(url, pieces, given_up), daemon=True).start()
    content, since, before = bytearray(), time.monotonic(), 0
    try:
        while piece := pieces.get(timeout=NETWORK_TIMEOUT):
            if isinstance(piece, Exception):
                raise piece
            content += piece
            if len(content) > most:
                raise OSError(f"sends more than {most:,} bytes, which is more than the file has")
            seconds, came = time.monotonic() - since, len(content) - before
            if seconds >= PERIOD:
                if came < SLOWEST * seconds:
                    raise TimeoutError(f"too slow: {came:,} bytes in {seconds:.1f} s")
                since, before = time.monotonic(), len(content)
    except queue.Empty:
        raise TimeoutError(f"nothing came for {NETWORK_TIMEOUT} s") from None
    finally:
        given_up.set()
    return bytes(content)


def _receive(url: str, pieces: queue.SimpleQueue[bytes | Exception], given_up: threading.Event) -> None:
    """Put what comes from `url` into `pieces`, as it comes; then b"", or the exception that ended it."""
    try:
        request = Request(url, headers={"User-Agent": "pytorch/vision"})  # as torchvision does: some turn Python away
        with urlopen(request, timeout=2 * NETWORK_TIMEOUT) as response:  # 2: later than `_fetch`, which says it better
            while not given_up.is_set() and (piece := response.read1(2**16)):
                pieces.put(piece)
            if response.length:
                raise ConnectionError(f"the connection ended {response.length:,} bytes too early")
        pieces.put(b"")
    except Exception as error:
        if isinstance(error, HTTPError):
            error.close()  # it is an answer, too
        pieces.put(error)


def _from_apt(report: Report) -> dict[str, bytes]:
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise _Unavailable(f"there is no {tool} here")
    report(f"  apt-get download {PACKAGE}: 31 MB …")
    # Sandbox: apt-get run by root would become a user who can't write into our folder, and warn.
    apt_get = ["apt-get", "-oAPT::Sandbox::User=root", f"-oAcquire::http::Timeout={NETWORK_TIMEOUT}"]
    with tempfile.TemporaryDirectory() as scratch:
        try:
            _run(*apt_get, "download", PACKAGE, cwd=scratch)
        except _Unavailable as reason:
            if "Unable to locate" not in str(reason) and "404  Not Found" not in str(reason):
                raise
            report(f"  apt-get download {PACKAGE}: {reason}; getting newer package lists …")
            for needed in ("lists/partial", "cache/archives/partial"):
                Path(scratch, needed).mkdir(parents=True)
            apt_get += [f"-oDir::State::lists={scratch}/lists", f"-oDir::Cache={scratch}/cache"]  # so root isn't needed
            _run(*apt_get, "update", cwd=scratch)
            _run(*apt_get, "download", PACKAGE, cwd=scratch)
        if not (packages := list(Path(scratch).glob("*.deb"))):
            raise _Unavailable("apt-get gave no package")
        _run("dpkg-deb", "-x", packages[0].name, "unpacked", cwd=scratch)
        try:
            return _read_all(Path(scratch, "unpacked", SYSTEM_FOLDER.relative_to("/")))
        except DataError as error:
            raise _Unavailable(_in_one_line(error)) from error


def _run(*command: str, cwd: str, seconds: int = 300) -> None:
    """Run a command; _Unavailable, with its last error, where it fails or takes longer than `seconds`."""
    options = {"cwd": cwd, "env": os.environ | {"LC_ALL": "C"}, "stdin": subprocess.DEVNULL, "timeout": seconds}
    try:
        subprocess.run(command, **options, check=True, capture_output=True, text=True)
    except subprocess.TimeoutExpired as error:
        raise _Unavailable(f"{command[0]} gave no result in {seconds} s") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.splitlines() or [f"{command[0]} ended with status {error.returncode}"]
        raise _Unavailable(next((line for line in reversed(lines) if line.startswith("E:")), lines[-1])) from error


# --- files ------------------------------------------------------------------------------------------------------------


def _present(folder: Path) -> dict[str, Path]:
    """Which of the four files lie in `folder`, decompressed or else as .gz."""
    return {name: path for name in FILES for path in (folder / f"{name}.gz", folder / name) if os.path.exists(path)}


def _why_none(folder: Path) -> str:
    """Why none of the files is seen in `folder`."""
    try:
        os.stat(folder / next(iter(FILES)))
    except (FileNotFoundError, NotADirectoryError):
        return "none of them" if folder.is_dir() else "a file" if folder.exists() else "no such folder"
    except OSError as error:
        return f"cannot be looked into: {_in_one_line(error)}"
    return "none of them"  # they have come this moment


def _read_all(folder: Path, to_do: str = "", files: Mapping[str, tuple[int, str]] = FILES) -> dict[str, bytes]:
    """The four files in `folder`, decompressed and verified; DataError where one is missing or wrong."""
    present = _present(folder)
    if missing := [name for name in files if name not in present]:
        found = "all but " + ", ".join(missing) if present else _why_none(folder)
        expected = f"{', '.join(files)}; as they are or as .gz"
        raise _wrong(f"{folder} does not hold Fashion-MNIST", expected, found, to_do)
    return {name: _read(present[name], files[name], to_do) for name in files}


def _read(path: Path, expected: tuple[int, str], to_do: str) -> bytes:
    """The decompressed bytes of `path`; DataError where they aren't of the `expected` size and SHA-256."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _wrong_file(str(path), expected, f"cannot be read: {_in_one_line(error)}", to_do) from error
    return _verified(str(path), content, expected, to_do)


def _verified(where: str, content: bytes, expected: tuple[int, str], to_do: str = "") -> bytes:
    """The content of the file or URL `where`, decompressed; DataError where it isn't what is expected."""
    try:
        decompressed = gzip.decompress(content) if where.endswith(".gz") else content
    except (OSError, EOFError, zlib.error) as error:  # BadGzipFile is an OSError
        is_page = content.lstrip().startswith(b"<")
        found = "a web page (some networks answer so until you log in)" if is_page else f"cannot be read: {error}"
        raise _wrong_file(where, expected, found, to_do) from error
    size, sha256 = len(decompressed), hashlib.sha256(decompressed).hexdigest()
    if (size, sha256) == expected:
        return decompressed
    found = f"{size:,} bytes, SHA-256 {sha256[:12]}…"
    if other := next((name for name, (_, known) in FILES.items() if known == sha256), None):
        found += f", which is {other}"
    elif size == expected[0]:
        found += ": the right size, but damaged, or another data set (MNIST's files have the same names and sizes)"
    raise _wrong_file(where, expected, found, to_do)


def _wrong_file(where: str, expected: tuple[int, str], found: str, to_do: str) -> DataError:
    size, sha256 = expected
    described = f"{size:,} bytes, SHA-256 {sha256[:12]}…{', decompressed' * where.endswith('.gz')}"
    return _wrong(f"{where} is not the file that it should be", described, found, to_do)


def _wrong(what: str, expected: str, found: str, to_do: str) -> DataError:
    lines = [f"{what}.", f"  expected: {expected}", f"  found:    {found}", f"  to do:    {to_do}"]
    return DataError("\n".join(lines if to_do else lines[:-1]))


def _in_one_line(error: Exception) -> str:
    """What an exception says, for a line of the report."""
    if isinstance(error, URLError) and isinstance(error.reason, Exception):
        error = error.reason
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return "; ".join(" ".join(line.split()).rstrip(".") for line in said.splitlines())[:500]


def _keep(contents: Mapping[str, bytes], raw: Path, report: Report) -> bool:
    """Write the files that `raw` lacks; False, and a line that says why, where that can't be done."""
    try:
        raw.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            if not (raw / name).exists():
                _write(raw / name, content)
    except OSError as error:
        why = _in_one_line(error)
        report(f"  {with_tilde(raw)}: cannot be written ({why}), so nothing is kept for the next time")
        return False
    return True


def _write(path: Path, content: bytes) -> None:
    """All of the file or none of it, whatever happens, and however many processes do so at once."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    except PermissionError:  # on Windows also where someone reads `path`: another process was quicker
        if not path.exists() or path.read_bytes() != content:
            raise
    finally:
        unfinished.unlink(missing_ok=True)


def _sweep(raw: Path, report: Report) -> None:
    """Delete what processes that were killed in `_write` have left in `raw`; not what others are writing now."""
    for unfinished in [path for name in FILES for path in raw.glob(f".{name}.{'[0-9a-f]' * 8}")]:
        try:
            if time.time() - unfinished.stat().st_mtime > STALE:
                unfinished.unlink()
        except FileNotFoundError:
            continue  # another process has swept it, or finished it
        except OSError as error:
            report(f"  {with_tilde(unfinished)}: left half-written, and cannot be deleted ({_in_one_line(error)})")
