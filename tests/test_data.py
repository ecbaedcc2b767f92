"""utils/data.py: what a batch holds, and where the data may come from. No test needs a network or the real data, but
those that take the fixture `whole`; they skip, and say so, where only the shipped sample is to be had."""

import contextlib
import errno
import gzip
import hashlib
import http.server
import json
import multiprocessing
import os
import shutil
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import nbclient
import nbformat
import platformdirs  # here, for nobody (see `as_nobody`) may not be able to
import pytest
import torch
from for_data import be_killed_while_writing, fill
from for_tools import tool
from torch.nn import functional as F

from utils import data
from utils.data import CLASSES, MEAN, STD, DataError, Images, load_fashion_mnist

ROOT = Path(__file__).resolve().parents[1]
NAMES = list(data.FILES)
BLACK = (0 - MEAN) / STD
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here"))]


@pytest.fixture(scope="session")
def whole():
    """All of Fashion-MNIST, from wherever this machine has it."""
    lines = []
    found = load_fashion_mnist(report=lines.append)
    if found.is_sample:
        pytest.skip("NOT TESTED: the real data, which is nowhere to be had:\n" + "\n".join(lines))
    return found


@pytest.fixture(scope="session")
def sample():
    contents, source = data._from_sample(lambda line: None)
    return data._assemble(contents, source, torch.device("cpu"), is_sample=True)


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """No test finds the data of this machine, or its network, by accident."""

    def unreachable(report):
        raise data._Unavailable("not in this test")

    monkeypatch.delenv("FASHION_MNIST_DIR", raising=False)
    for home in ("HOME", "USERPROFILE"):  # what lies in it is shown with ~: the test's own folder must not
        monkeypatch.setenv(home, str(tmp_path / "home"))
    monkeypatch.setattr(data, "SYSTEM_FOLDER", tmp_path / "no system folder")
    for source in ("_from_torchvision", "_from_apt"):
        monkeypatch.setattr(data, source, unreachable)


def idx(values):
    return struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.numpy().tobytes()


@pytest.fixture
def tiny(monkeypatch):
    """The contents of four small files, 24 + 4 images a class, which pass for the real ones during the test."""
    g = torch.Generator().manual_seed(0)
    contents = {}
    for part, per_class in (("train", 24), ("t10k", 4)):
        labels = torch.arange(10, dtype=torch.uint8).repeat(per_class)[torch.randperm(10 * per_class, generator=g)]
        pixels = torch.randint(256, (len(labels), 28, 28), generator=g, dtype=torch.uint8)
        contents |= {f"{part}-images-idx3-ubyte": idx(pixels), f"{part}-labels-idx1-ubyte": idx(labels)}
    for name, content in contents.items():
        monkeypatch.setitem(data.FILES, name, (len(content), hashlib.sha256(content).hexdigest()))
    return contents


def write(folder, contents, *, gz=()):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        path = folder / (f"{name}.gz" if name in gz else name)
        path.write_bytes(gzip.compress(content) if name in gz else content)
    return folder


def snapshot(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def raw_of(cache):
    return cache / "FashionMNIST" / "raw"


def whole_cache(cache, tiny):
    """What `snapshot` must give: the four files, and nothing half-written."""
    return {raw_of(cache) / name: tiny[name] for name in sorted(NAMES)}


posix = pytest.mark.skipif(os.name != "posix", reason="apt and signals are not for Windows")


# --- the split --------------------------------------------------------------------------------------------------------


def test_the_whole_is_fashion_mnist(whole):
    assert [len(part) for part in (whole.train, whole.validation, whole.all_train, whole.test)] == [
        55_000, 5_000, 60_000, 10_000,
    ]  # fmt: skip
    for part, per_class in ((whole.train, 5500), (whole.validation, 500), (whole.all_train, 6000), (whole.test, 1000)):
        assert part.labels.bincount().tolist() == [per_class] * 10
        assert part.pixels.dtype == torch.uint8 and part.pixels.shape[1:] == (1, 28, 28)
    std, mean = torch.std_mean(whole.all_train.pixels.float() / 255)
    assert (round(mean.item(), 4), round(std.item(), 4)) == (MEAN, STD)
    assert not whole.is_sample


def test_classes_are_torchvisions():
    from torchvision.datasets import FashionMNIST

    assert list(CLASSES) == FashionMNIST.classes and data.FashionMNIST.classes is CLASSES
    assert [f"{name}.gz" for name in NAMES] == [name for name, _ in FashionMNIST.resources]


def test_validation_is_every_twelfth_image_of_its_class(tiny, tmp_path):
    write(raw_of(tmp_path), tiny)
    found = load_fashion_mnist(tmp_path, report=lambda line: None)
    seen = [0] * 10
    expected = {"train": [], "validation": []}
    for i, label in enumerate(tiny["train-labels-idx1-ubyte"][8:]):
        seen[label] += 1
        expected["validation" if seen[label] % 12 == 0 else "train"].append(i)
    pixels = torch.frombuffer(bytearray(tiny["train-images-idx3-ubyte"][16:]), dtype=torch.uint8).view(-1, 1, 28, 28)
    assert torch.equal(found.train.pixels, pixels[expected["train"]])
    assert torch.equal(found.validation.pixels, pixels[expected["validation"]])
    assert found.validation.labels.tolist() == [tiny["train-labels-idx1-ubyte"][8 + i] for i in expected["validation"]]
    assert found.validation.labels.bincount().tolist() == [2] * 10


def test_the_split_costs_no_memory_and_overlaps_nowhere(sample):
    for part in ("pixels", "labels"):
        train, validation, both = (getattr(x, part) for x in (sample.train, sample.validation, sample.all_train))
        assert train.data_ptr() == both.data_ptr()
        assert validation.data_ptr() == both.data_ptr() + train.numel() * train.element_size()
        assert torch.equal(torch.cat([train, validation]), both)


def test_loading_neither_reads_nor_moves_the_global_random_numbers(tiny, tmp_path):
    write(raw_of(tmp_path), tiny)
    digests = set()
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        digests.add(load_fashion_mnist(tmp_path, report=lambda line: None).digest)
        assert torch.equal(before, torch.get_rng_state())
    assert len(digests) == 1


def test_the_digest_depends_on_every_part(tiny, sample):
    def digest(contents):
        return data._assemble(contents, "", torch.device("cpu"), is_sample=False).digest

    digests = [digest(tiny), sample.digest]
    for name in NAMES:  # another last pixel, another last label
        digests.append(digest(tiny | {name: tiny[name][:-1] + bytes([(tiny[name][-1] + 1) % 10])}))
    assert len(set(digests)) == 6 and all(len(d) == 64 for d in digests)


# --- batches ----------------------------------------------------------------------------------------------------------


def test_normalised_as_torchvision_does(sample):
    from torchvision.transforms import functional as TF

    index = torch.tensor([5, 0, 5, 4999])
    x, y = sample.train.batch(index)
    expected = TF.normalize(sample.train.pixels[index].float() / 255, [MEAN], [STD])
    assert x.dtype == torch.float32 and torch.equal(x, expected)
    assert torch.equal(y, sample.train.labels[index])
    x, y = sample.train.batch(slice(2, 9, 3))
    assert torch.equal(x, sample.train.batch(torch.tensor([2, 5, 8]))[0]) and y.shape == (3,)
    x, y = sample.train.batch(slice(0, 0), image_size=32, augment="flip+shift")
    assert x.shape == (0, 1, 32, 32) and y.shape == (0,)


@pytest.mark.parametrize(("size", "before"), [(29, 0), (30, 1), (32, 2), (33, 2), (36, 4)])
def test_framed_with_black(sample, size, before):
    x, _ = sample.test.batch(slice(20), image_size=size)
    assert x.shape == (20, 1, size, size)
    inside = (..., slice(before, before + 28), slice(before, before + 28))
    assert torch.equal(x[inside], sample.test.batch(slice(20))[0])
    x[inside] = BLACK
    assert torch.allclose(x, torch.full_like(x, BLACK), rtol=0, atol=1e-6)


def test_enlarged_bilinearly(sample):
    x, _ = sample.test.batch(slice(4), image_size=56)
    small, _ = sample.test.batch(slice(4))
    assert x.shape == (4, 1, 56, 56)
    # Twice the size: a pixel lies a quarter of the way from one old pixel to the next, in both directions.
    a, b, c, d = small[..., 10, 12], small[..., 10, 13], small[..., 11, 12], small[..., 11, 13]
    assert torch.allclose(x[..., 21, 25], (9 * a + 3 * b + 3 * c + d) / 16, atol=1e-6)


def moved(pixels, mirrored, down, right, size):
    """One (1, 28, 28) image, mirrored or not, moved, in the middle of a black (1, size, size) one: by plain slicing."""
    canvas = torch.zeros(1, size + 8, size + 8, dtype=torch.uint8)
    top, left = 4 + (size - 28) // 2 + down, 4 + (size - 28) // 2 + right
    canvas[:, top : top + 28, left : left + 28] = pixels.flip(-1) if mirrored else pixels
    return canvas[:, 4 : 4 + size, 4 : 4 + size]


def how_moved(images, size, augment, shifts, seed=0):
    """For each image, every (mirrored, down, right) that explains what `batch` made of it."""
    x, y = images.batch(slice(None), image_size=size, augment=augment, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(y, images.labels)
    x = ((x * STD + MEAN) * 255).round().to(torch.uint8)
    moves = [(mirrored, down, right) for mirrored in (False, True) for down in shifts for right in shifts]
    return [
        [move for move in moves if torch.equal(moved(pixels, *move, size), got)]
        for pixels, got in zip(images.pixels, x, strict=True)
    ]


def test_flip_mirrors_each_image_or_leaves_it(sample):
    found = how_moved(sample.test.take(400), 28, "flip", shifts=[0])
    assert all(found), "an image is neither itself nor its mirror image"
    mirrored = sum(moves == [(True, 0, 0)] for moves in found)
    assert 140 < mirrored < 260  # ½ of 400, ± six standard deviations


@pytest.mark.parametrize("size", [28, 32, 33])
def test_shift_moves_each_image_by_itself(sample, size):
    found = how_moved(sample.test.take(400), size, "flip+shift", shifts=range(-2, 3))
    assert all(found), "an image is no shifted copy of itself"
    sure = [moves[0] for moves in found if len(moves) == 1]
    assert len(sure) > 300 and len(set(sure)) == 50, "each of 2 × 5 × 5 moves occurs"


def test_shift_before_enlarging(sample):
    images = sample.test.take(8)
    x, _ = images.batch(slice(None), image_size=56, augment="flip+shift", generator=torch.Generator().manual_seed(1))
    small, _ = images.batch(slice(None), augment="flip+shift", generator=torch.Generator().manual_seed(1))
    assert torch.equal(x, F.interpolate(small, size=(56, 56), mode="bilinear"))


@pytest.mark.parametrize("augment", ["flip", "flip+shift"])
def test_augmentation_repeats_with_its_generator(sample, augment):
    def batch(generator=None):
        return sample.test.batch(slice(100), augment=augment, generator=generator)[0]

    state = torch.get_rng_state()
    first, again, other = (batch(torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state()), "with a generator, the global numbers stay as they are"
    torch.manual_seed(3)
    first = batch()
    torch.manual_seed(3)
    assert torch.equal(first, batch())


def test_the_images_themselves_never_change(sample):
    before = sample.test.pixels.clone()
    for augment in data.AUGMENTATIONS:
        for size in (28, 32, 40):
            x, _ = sample.test.batch(slice(64), image_size=size, augment=augment)
            x.zero_()
    assert torch.equal(sample.test.pixels, before)


def test_wrong_requests_say_what_was_expected(sample):
    with pytest.raises(ValueError, match="at least 28, the images' own size, got 27"):
        sample.test.batch(slice(1), image_size=27)
    with pytest.raises(ValueError, match=r"'none', 'flip', 'flip\+shift', got 'rotate'"):
        sample.test.batch(slice(1), augment="rotate")
    for index in (3, [1, 2], torch.tensor(3), torch.tensor([True] * 1000), torch.zeros(3, dtype=torch.uint8)):
        with pytest.raises(TypeError, match="slice or a one-dimensional int64 tensor"):
            sample.test.batch(index)
    with pytest.raises(IndexError):
        sample.test.batch(torch.tensor([1000]))
    pixels, labels = torch.zeros(3, 1, 28, 28, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)
    for wrong in ((pixels[:2], labels), (pixels.float(), labels), (pixels.squeeze(1), labels), (pixels, labels.int())):
        with pytest.raises(ValueError, match=r"pixels must be \(N, 1, 28, 28\) uint8"):
            Images(*wrong)


@pytest.mark.parametrize("device", DEVICES)
def test_everything_happens_on_the_device(sample, device):
    images = sample.test.to(device)
    assert images.device.type == device and len(images.take(50)) == 50 and images.take(50).device.type == device
    for index in (slice(64), torch.arange(64), torch.arange(64, device=device)):
        x, y = images.batch(index, image_size=32, augment="flip+shift", generator=torch.Generator().manual_seed(0))
        assert x.device.type == y.device.type == device
        expected, _ = sample.test.batch(
            slice(64), image_size=32, augment="flip+shift", generator=torch.Generator().manual_seed(0)
        )
        assert torch.allclose(x.cpu(), expected, atol=1e-6), "a generator on the CPU means the same on every device"


# --- part of the data -------------------------------------------------------------------------------------------------


def numbered(labels):
    """Images that carry their own number in their first three pixels."""
    n = torch.arange(len(labels))
    pixels = torch.zeros(len(labels), 1, 28, 28, dtype=torch.uint8)
    for i in range(3):
        pixels[:, 0, 0, i] = (n // 256**i % 256).to(torch.uint8)
    return Images(pixels, labels)


def numbers(images):
    return sum(images.pixels[:, 0, 0, i].long() * 256**i for i in range(3)).tolist()


def test_take_keeps_the_shares_of_the_classes(sample):
    assert sample.all_train.take(1000).labels.bincount().tolist() == [100] * 10
    counts = sample.all_train.take(1003).labels.bincount().tolist()
    assert sum(counts) == 1003 and set(counts) == {100, 101}

    g = torch.Generator().manual_seed(0)
    shares = torch.tensor([700, 200, 70, 25, 5])
    labels = torch.arange(5).repeat_interleave(shares)[torch.randperm(1000, generator=g)]
    for n in (1, 10, 99, 333, 500, 1000):
        taken = numbered(labels).take(n)
        assert len(taken) == n == len(set(numbers(taken))), "no image twice"
        assert torch.equal(taken.labels, labels[numbers(taken)]), "each with its own label"
        counts = taken.labels.bincount(minlength=5)
        assert ((counts - shares * n / 1000).abs() <= 1).all(), (n, counts)


def test_take_is_random_repeatable_and_grows(sample):
    images = numbered(sample.all_train.labels)
    small, large = numbers(images.take(500, seed=1)), numbers(images.take(2000, seed=1))
    assert large[:500] == small
    assert small != numbers(images.take(500, seed=2)) and small != sorted(small)
    state = torch.get_rng_state()
    assert numbers(images.take(500, seed=1)) == small
    assert torch.equal(state, torch.get_rng_state())
    for n in (0, -1, 6001):
        with pytest.raises(ValueError, match="from 1 to 6,000"):
            images.take(n)


# --- where it comes from ----------------------------------------------------------------------------------------------


def test_the_cache_is_one_line(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write(raw_of(tmp_path / "cache"), tiny)
    lines = []
    found = load_fashion_mnist(tmp_path / "cache", report=lines.append)
    assert lines == ["Fashion-MNIST: 240 + 40 images from ~/cache/FashionMNIST/raw"]
    assert found.source == "~/cache/FashionMNIST/raw" and not found.is_sample


def test_without_a_folder_the_cache_is_the_users(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    write(raw_of(tmp_path / "bigger-and-deeper"), tiny)
    assert str(tmp_path / "bigger-and-deeper") in load_fashion_mnist(report=lambda line: None).source


def test_torchvision_reads_the_cache(tiny, tmp_path, monkeypatch):
    from torchvision.datasets import FashionMNIST

    monkeypatch.setattr(data, "SYSTEM_FOLDER", write(tmp_path / "system", tiny, gz=NAMES))
    found = load_fashion_mnist(tmp_path / "cache", report=lambda line: None)
    assert snapshot(tmp_path / "cache") == {raw_of(tmp_path / "cache") / name: tiny[name] for name in sorted(NAMES)}
    test = FashionMNIST(tmp_path / "cache", train=False, download=False)
    assert torch.equal(test.data, found.test.pixels.squeeze(1)) and torch.equal(test.targets, found.test.labels)
    train = FashionMNIST(tmp_path / "cache", train=True, download=False)
    assert sorted(x.numpy().tobytes() for x in train.data) == sorted(
        x.numpy().tobytes() for x in found.all_train.pixels
    )


def test_the_sources_are_tried_in_order(tiny, tmp_path, monkeypatch):
    """Each in its turn is the only one that has the data; those before it get a line, those after it aren't asked."""
    asked = []

    def source(name, has_it):
        def fetch(report):
            asked.append(name)
            if not has_it:
                raise data._Unavailable(f"{name} is down")
            return tiny

        return fetch

    order = ["_from_system", "_from_torchvision", "_from_apt"]
    titles = [str(data.SYSTEM_FOLDER), "torchvision's download", "apt-get download dataset-fashion-mnist"]
    for k, only in enumerate(order):
        asked.clear()
        for name in order:
            monkeypatch.setattr(data, name, source(name, name == only))
        lines, cache = [], tmp_path / only
        found = load_fashion_mnist(cache, report=lines.append)
        assert asked == order[: k + 1]
        assert lines == [
            "Fashion-MNIST: looking for it",
            "  FASHION_MNIST_DIR: not set",
            f"  {raw_of(cache)}: not there yet",
            *(f"  {titles[i]}: {order[i]} is down" for i in range(k)),
            f"  {titles[k]}: all there",
            f"Fashion-MNIST: 240 + 40 images from {titles[k]}, kept in {raw_of(cache)}",
        ]
        asked.clear()
        assert load_fashion_mnist(cache, report=lines.append).digest == found.digest
        assert asked == [] and lines[-1] == f"Fashion-MNIST: 240 + 40 images from {raw_of(cache)}"


def test_the_sample_comes_last_under_a_banner(tmp_path):
    lines = []
    found = load_fashion_mnist(tmp_path, report=lines.append)
    sizes = [len(part) for part in (found.train, found.validation, found.all_train, found.test)]
    assert found.is_sample and sizes == [5500, 500, 6000, 1000]
    text = "\n".join(lines)
    for said in ("not there", "not in this test", "THIS IS A SAMPLE", "less accurate", "connect to the internet",
                 "sudo apt install dataset-fashion-mnist", "FASHION_MNIST_DIR to that folder"):  # fmt: skip
        assert said in text
    assert lines[-1] == "Fashion-MNIST: 6,000 + 1,000 images from the project's sample"
    assert not snapshot(tmp_path), "the sample is never kept in the place of the data"


@pytest.mark.parametrize("inside", [".", "FashionMNIST/raw"])
@pytest.mark.parametrize("gz", [(), NAMES, NAMES[:2]])
def test_the_named_folder_comes_first(tiny, tmp_path, monkeypatch, inside, gz):
    write(tmp_path / "mine" / inside, tiny, gz=gz)
    write(raw_of(tmp_path / "cache"), dict.fromkeys(NAMES, b"broken, and not looked at"))
    before = snapshot(tmp_path)
    monkeypatch.setenv("FASHION_MNIST_DIR", str(tmp_path / "mine"))
    lines = []
    assert len(load_fashion_mnist(tmp_path / "cache", report=lines.append).all_train) == 240
    assert len(lines) == 1 and lines[0].endswith("(FASHION_MNIST_DIR)")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("present", "found"),
    [(None, "no such folder"), ([], "none of them"), (NAMES[1:], "all but train-images-idx3-ubyte")],
)
def test_a_named_folder_without_the_data_is_an_error(tiny, tmp_path, monkeypatch, present, found):
    if present is not None:
        write(tmp_path / "mine", {name: tiny[name] for name in present})
    write(raw_of(tmp_path / "cache"), tiny)
    monkeypatch.setenv("FASHION_MNIST_DIR", str(tmp_path / "mine"))
    with pytest.raises(DataError, match=rf"mine does not hold(?s:.)*found: +{found}\n(?s:.)*unset FASHION_MNIST_DIR"):
        load_fashion_mnist(tmp_path / "cache")


def error_of(named, cache, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_DIR", str(named))
    with pytest.raises(DataError) as caught:
        load_fashion_mnist(cache)
    assert "unset FASHION_MNIST_DIR" in str(caught.value)
    return str(caught.value)


def test_a_named_folder_that_is_a_file_is_an_error(tiny, tmp_path, monkeypatch):
    file = write(tmp_path / "mine", tiny, gz=NAMES) / f"{NAMES[0]}.gz"
    said = error_of(file, tmp_path, monkeypatch)
    assert f"{file} does not hold Fashion-MNIST" in said and "found:    a file\n" in said


def test_a_named_folder_with_another_data_set_says_that_mnists_files_have_the_same_names(tiny, tmp_path, monkeypatch):
    mnist = write(tmp_path / "MNIST", {name: bytes(len(content)) for name, content in tiny.items()})
    said = error_of(mnist, tmp_path, monkeypatch)
    assert f"{mnist / NAMES[0]} is not the file" in said
    assert "the right size, but damaged, or another data set (MNIST's files have the same names and sizes)" in said


def test_a_relative_named_folder_counts_from_the_notebooks_folder(tiny, tmp_path, monkeypatch):
    write(tmp_path / "mine", tiny)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("FASHION_MNIST_DIR", "mine")
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path / "mine") in load_fashion_mnist(tmp_path / "cache", report=lambda line: None).source
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert f"{tmp_path / 'elsewhere' / 'mine'} does not hold" in error_of("mine", tmp_path, monkeypatch)


@pytest.mark.parametrize("name", ["{}", '"{}"', "'{}'", "{} ", '"{}" ', "~/Übung am Montag"])
def test_quotes_spaces_umlauts_and_a_tilde_are_understood(tiny, tmp_path, monkeypatch, name):
    """`set FASHION_MNIST_DIR="C:\\My data" && jupyter lab`, on Windows, leaves the quotes and the last space in it."""
    write(tmp_path / "Übung am Montag", tiny)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("FASHION_MNIST_DIR", name.format(tmp_path / "Übung am Montag"))
    found = load_fashion_mnist(tmp_path / "cache", report=lambda line: None)
    assert found.source == "~/Übung am Montag (FASHION_MNIST_DIR)" and len(found.test) == 40


@pytest.mark.parametrize("nothing", ["", " ", '""'])
def test_a_named_folder_without_a_name_counts_as_none(tiny, tmp_path, monkeypatch, nothing):
    write(raw_of(tmp_path), tiny)
    monkeypatch.setenv("FASHION_MNIST_DIR", nothing)
    assert load_fashion_mnist(tmp_path, report=lambda line: None).source == str(raw_of(tmp_path))


def test_on_windows_nothing_is_said_about_a_system_folder_or_apt(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "HAS_SYSTEM_FOLDER", False)
    for source in ("_from_system", "_from_apt"):
        monkeypatch.setattr(data, source, never)
    lines = []
    load_fashion_mnist(tmp_path, report=lines.append)
    before_the_banner = "\n".join(lines[: lines.index("-" * 100)])
    said = error_of(tmp_path / "nowhere", tmp_path, monkeypatch)
    for text in (before_the_banner, said):
        assert str(data.SYSTEM_FOLDER) not in text and "apt" not in text
    assert "torchvision's download: not in this test" in before_the_banner


# --- files that aren't what they should be ----------------------------------------------------------------------------

DAMAGE = {
    "truncated": lambda tiny, name: tiny[name][:-1],
    "empty": lambda tiny, name: b"",
    "one bit": lambda tiny, name: tiny[name][:-1] + bytes([tiny[name][-1] ^ 1]),
    "train for t10k": lambda tiny, name: tiny[NAMES[NAMES.index(name) ^ 2]],
    "labels for images": lambda tiny, name: tiny[NAMES[NAMES.index(name) ^ 1]],
    "with more behind": lambda tiny, name: tiny[name] + b"\0",
}
GZ_DAMAGE = {
    "truncated": lambda packed: packed[:-20],
    "empty": lambda packed: b"",
    "a web page": lambda packed: b"<html>Please log in to this network",
    "one bit": lambda packed: packed[:30] + bytes([packed[30] ^ 1]) + packed[31:],
}


def never(report):
    raise AssertionError("a broken file was passed over for another source")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_broken_file_in_the_cache_is_an_error(tiny, tmp_path, monkeypatch, name, damage):
    raw = write(raw_of(tmp_path), tiny | {name: DAMAGE[damage](tiny, name)})
    for source in ("_from_system", "_from_torchvision", "_from_apt"):
        monkeypatch.setattr(data, source, never)
    before = snapshot(tmp_path)
    with pytest.raises(DataError) as caught:
        load_fashion_mnist(tmp_path)
    size, sha256 = data.FILES[name]
    broken = before[raw / name]
    for said in (
        f"{raw / name} is not the file",
        f"expected: {size:,} bytes, SHA-256 {sha256[:12]}…",
        f"found:    {len(broken):,} bytes, SHA-256 {hashlib.sha256(broken).hexdigest()[:12]}…",
        "to do:    delete it (its path stands above) and run this again",
    ):
        assert said in str(caught.value)
    assert ("which is" in str(caught.value)) == (" for " in damage)
    assert ("the right size, but" in str(caught.value)) == (damage == "one bit")
    assert snapshot(tmp_path) == before, "left as it was"
    (raw / name).unlink()  # what the message says
    monkeypatch.setattr(data, "_from_system", lambda report: tiny)
    assert len(load_fashion_mnist(tmp_path, report=lambda line: None).all_train) == 240


@pytest.mark.parametrize("damage", [*DAMAGE, *(f"gz: {name}" for name in (*DAMAGE, *GZ_DAMAGE))])
@pytest.mark.parametrize("place", ["cache", "system", "named"])
def test_a_broken_file_is_an_error_wherever_it_lies(tiny, tmp_path, monkeypatch, damage, place):
    name, what = NAMES[3], damage.removeprefix("gz: ")
    gz = NAMES if damage.startswith("gz") else ()
    folder = write(raw_of(tmp_path) if place == "cache" else tmp_path / place, tiny, gz=gz)
    path = folder / (f"{name}.gz" if gz else name)
    if gz and what in GZ_DAMAGE:
        path.write_bytes(GZ_DAMAGE[what](path.read_bytes()))
    else:
        write(folder, {name: DAMAGE[what](tiny, name)}, gz=gz)
    if place == "system":
        monkeypatch.setattr(data, "SYSTEM_FOLDER", folder)
    if place == "named":
        monkeypatch.setenv("FASHION_MNIST_DIR", str(folder))
    for source in ("_from_torchvision", "_from_apt"):
        monkeypatch.setattr(data, source, never)
    to_do = {
        "cache": "delete it (its path stands above) and run this again",
        "system": "sudo apt install --reinstall dataset-fashion-mnist",
        "named": "put the right files there",
    }
    before = snapshot(tmp_path)
    with pytest.raises(DataError) as caught:
        load_fashion_mnist(tmp_path, report=lambda line: None)
    said = str(caught.value)
    assert f"{path} is not the file" in said and f"to do:    {to_do[place]}" in said
    assert f"expected: {len(tiny[name]):,} bytes, SHA-256 {data.FILES[name][1][:12]}…" in said and "found:    " in said
    assert ("which is" in said) == (" for " in what) and ("web page" in said) == (what == "a web page")
    assert snapshot(tmp_path) == before


def test_a_half_unpacked_file_is_an_error_though_its_gz_is_whole_and_deleting_it_is_enough(tiny, tmp_path, monkeypatch):
    """As torchvision leaves them if it is killed while it unpacks."""
    raw = write(raw_of(tmp_path), tiny, gz=NAMES)
    write(raw, {NAMES[0]: tiny[NAMES[0]][:1000]})
    for source in ("_from_system", "_from_torchvision", "_from_apt"):
        monkeypatch.setattr(data, source, never)
    with pytest.raises(DataError, match=rf"{NAMES[0]} is not the file(?s:.)*found: +1,000 bytes(?s:.)*delete it"):
        load_fashion_mnist(tmp_path)
    (raw / NAMES[0]).unlink()
    assert len(load_fashion_mnist(tmp_path, report=lambda line: None).test) == 40
    assert (raw / NAMES[0]).read_bytes() == tiny[NAMES[0]]


def test_a_folder_in_the_place_of_a_file_is_an_error(tiny, tmp_path):
    raw = write(raw_of(tmp_path), tiny)
    (raw / NAMES[0]).unlink()
    (raw / NAMES[0]).mkdir()
    with pytest.raises(DataError, match="cannot be read: "):
        load_fashion_mnist(tmp_path)


def test_half_a_cache_is_completed(tiny, tmp_path, monkeypatch):
    raw = write(raw_of(tmp_path), {name: tiny[name] for name in NAMES[:2]})
    kept = {name: (raw / name).stat().st_mtime_ns for name in NAMES[:2]}
    monkeypatch.setattr(data, "_from_apt", lambda report: tiny)
    lines = []
    assert len(load_fashion_mnist(tmp_path, report=lines.append).test) == 40
    assert f"  {raw}: 2 of 4 files" in lines
    assert snapshot(tmp_path) == whole_cache(tmp_path, tiny)
    assert {name: (raw / name).stat().st_mtime_ns for name in NAMES[:2]} == kept


def test_an_empty_cache_folder_is_filled(tiny, tmp_path, monkeypatch):
    raw_of(tmp_path).mkdir(parents=True)
    monkeypatch.setattr(data, "_from_apt", lambda report: tiny)
    lines = []
    assert load_fashion_mnist(tmp_path, report=lines.append).source.endswith(f"kept in {raw_of(tmp_path)}")
    assert f"  {raw_of(tmp_path)}: none of them" in lines
    assert snapshot(tmp_path) == whole_cache(tmp_path, tiny)


def test_gz_files_in_the_cache_are_unpacked_for_torchvision(tiny, tmp_path):
    raw = write(raw_of(tmp_path), tiny, gz=NAMES)
    load_fashion_mnist(tmp_path, report=lambda line: None)
    assert {name: (raw / name).read_bytes() for name in NAMES} == tiny


def test_a_cache_that_cannot_be_written_is_reported(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "_from_apt", lambda report: tiny)
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    lines = []
    assert len(load_fashion_mnist(tmp_path / "file", report=lines.append).test) == 40
    assert any("cannot be written (" in line and "nothing is kept for the next time" in line for line in lines)
    assert lines[-1].endswith("images from apt-get download dataset-fashion-mnist")


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_nothing_half_done(tiny, tmp_path, monkeypatch, failure):
    real_replace, done = os.replace, []

    def replace(source, target):
        done.append(target)
        if len(done) == 3:
            raise failure
        real_replace(source, target)

    monkeypatch.setattr(data, "_from_system", lambda report: tiny)
    monkeypatch.setattr(os, "replace", replace)
    lines = []
    if isinstance(failure, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            load_fashion_mnist(tmp_path, report=lines.append)
    else:
        assert len(load_fashion_mnist(tmp_path, report=lines.append).test) == 40
        assert any("No space left on device" in line for line in lines)
    assert snapshot(tmp_path) == {raw_of(tmp_path) / name: tiny[name] for name in sorted(NAMES[:2])}
    assert load_fashion_mnist(tmp_path, report=lines.append).source.endswith(f"kept in {raw_of(tmp_path)}")


@pytest.fixture
def shared(tiny, tmp_path):
    """A folder from which for_data.py's functions know the tiny files."""
    write(tmp_path / "system", tiny, gz=NAMES)
    (tmp_path / "files.json").write_text(json.dumps(data.FILES), encoding="utf-8")
    return tmp_path


@posix
def test_a_process_that_is_killed_while_it_writes_leaves_nothing_that_harms(tiny, shared, monkeypatch):
    process = multiprocessing.get_context("spawn").Process(target=be_killed_while_writing, args=(shared,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    raw = raw_of(shared / "cache")
    assert {name: (raw / name).read_bytes() for name in NAMES[:2]} == {name: tiny[name] for name in NAMES[:2]}
    (half,) = set(raw.iterdir()) - {raw / name for name in NAMES[:2]}
    assert half.name.startswith(f".{NAMES[2]}.") and half.read_bytes() == tiny[NAMES[2]][: len(tiny[NAMES[2]]) // 2]

    monkeypatch.setattr(data, "_from_apt", lambda report: tiny)
    load_fashion_mnist(shared / "cache", report=lambda line: None)
    assert snapshot(raw) == whole_cache(shared / "cache", tiny) | {half: half.read_bytes()}, "it may be written still"
    os.utime(half, (time.time() - 2 * data.STALE,) * 2)
    load_fashion_mnist(shared / "cache", report=lambda line: None)
    assert snapshot(raw) == whole_cache(shared / "cache", tiny)


def test_only_what_was_left_half_written_is_swept(tiny, tmp_path, monkeypatch):
    raw = write(raw_of(tmp_path), tiny)
    mine = [raw / f".{NAMES[0]}.swp", raw / f"{NAMES[0]}.0123abcd", raw / ".notes.0123abcd"]
    half = raw / f".{NAMES[0]}.0123abcd"
    for path in (*mine, half):
        path.write_bytes(b"some bytes")
        os.utime(path, (time.time() - 2 * data.STALE,) * 2)

    def locked(path, missing_ok=False):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    lines = []
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", locked)
        assert len(load_fashion_mnist(tmp_path, report=lines.append).test) == 40
    assert lines[0] == f"  {half}: left half-written, and cannot be deleted (Permission denied)" and len(lines) == 2
    load_fashion_mnist(tmp_path, report=lines.append)
    assert not half.exists() and all(path.exists() for path in mine) and len(lines) == 3


@pytest.mark.parametrize("there", ["right", "wrong", "nothing"])
def test_a_file_that_others_have_open_cannot_be_replaced_on_windows(tiny, tmp_path, monkeypatch, there):
    def replace(source, target):
        if there != "nothing":
            Path(target).write_bytes(Path(source).read_bytes() if there == "right" else b"of someone else")
        raise PermissionError(errno.EACCES, "Access is denied", str(source))

    monkeypatch.setattr(data, "_from_system", lambda report: tiny)
    monkeypatch.setattr(os, "replace", replace)
    lines = []
    found = load_fashion_mnist(tmp_path, report=lines.append)
    assert len(found.test) == 40
    if there == "right":
        assert found.source.endswith(f"kept in {raw_of(tmp_path)}")
        assert snapshot(tmp_path) == whole_cache(tmp_path, tiny)
    else:
        assert any(f"{raw_of(tmp_path)}: cannot be written (Access is denied)" in line for line in lines)
        assert [path.name for path in snapshot(tmp_path)] == NAMES[:1] * (there == "wrong")


NOTEBOOK = """
import sys, pathlib
sys.path[:0] = {paths!r}  # not everywhere is this project installed
from utils.data import load_fashion_mnist
import torch
from for_data import fill
fill(pathlib.Path({folder!r}), {who!r}, {rounds})
"""


def run_notebook(folder, who, rounds):
    code = NOTEBOOK.format(paths=[str(ROOT), str(ROOT / "tests")], folder=str(folder), who=who, rounds=rounds)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    resources = {"metadata": {"path": str(ROOT / "notebooks")}}
    client = nbclient.NotebookClient(
        notebook, kernel_name="python3", timeout=300, resources=resources, shutdown_kernel="immediate"
    )
    client.execute()


@pytest.mark.system
def test_two_notebooks_and_four_workers_fill_one_cache_at_once(tiny, shared):
    """Time after time, all six find an empty cache at the same moment."""
    from torchvision.datasets import FashionMNIST

    rounds, workers, notebooks = 20, [f"worker {k}" for k in range(4)], ["notebook 0", "notebook 1"]
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=fill, args=(shared, who, rounds), daemon=True) for who in workers]
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(run_notebook, shared, who, rounds) for who in notebooks]
        try:
            for process in processes:
                process.start()
            for i in range(rounds):
                while not all((shared / f"{i} {who} is ready").exists() for who in workers + notebooks):
                    assert not [process for process in processes if process.exitcode], "a worker failed"
                    assert not [notebook.result() for notebook in running if notebook.done()]
                    time.sleep(0.001)
                (shared / f"{i} go").touch()
        finally:  # whatever happened, nobody waits for ever
            for i in range(rounds):
                (shared / f"{i} go").touch()
            for process in processes:
                process.join()
        assert [notebook.result() for notebook in running] == [None, None]
    assert [process.exitcode for process in processes] == [0] * 4

    right = data._assemble(tiny, "", torch.device("cpu"), is_sample=False).digest
    for who in workers + notebooks:
        assert json.loads((shared / f"{who}.json").read_text(encoding="utf-8")) == [right] * rounds
    for i in range(rounds):
        assert snapshot(shared / f"cache {i}") == whole_cache(shared / f"cache {i}", tiny)
    assert len(FashionMNIST(shared / "cache 0", train=True, download=False)) == 240


# --- permissions, and a full disk -------------------------------------------------------------------------------------

NOBODY = 65534


@contextlib.contextmanager
def as_nobody():
    """Root may do anything, so for this time the process is someone else."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def nobodys(tiny):
    """A folder of whoever `as_nobody` is; with an empty `cache`, and the tiny files in `full`."""
    if os.name != "posix":
        pytest.skip("NOT TESTED: a cache without permission, for permission bits are not for Windows.")
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    write(raw_of(folder / "full"), tiny)
    raw_of(folder / "cache").mkdir(parents=True)
    try:
        if os.geteuid() == 0:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, NOBODY, NOBODY)
        with as_nobody():
            (folder / "try").touch()
    except OSError as error:
        shutil.rmtree(folder)
        pytest.skip(f"NOT TESTED: a cache without permission, for this process can't become a mere user: {error}.")
    yield folder
    for path in (folder, *(Path(top, name) for top, names, _ in os.walk(folder) for name in names)):
        path.chmod(0o700)
    shutil.rmtree(folder)


def load_as_nobody(cache):
    lines = []
    with as_nobody():
        return load_fashion_mnist(cache, report=lines.append), lines


@pytest.mark.parametrize("closed", ["FashionMNIST/raw", "FashionMNIST", "."])
def test_a_cache_that_may_not_be_written_is_reported(tiny, nobodys, monkeypatch, closed):
    monkeypatch.setattr(data, "_from_apt", lambda report: tiny)
    shutil.rmtree(nobodys / "cache" / closed / "FashionMNIST", ignore_errors=True)
    shutil.rmtree(nobodys / "cache" / closed / "raw", ignore_errors=True)
    (nobodys / "cache" / closed).chmod(0o555)
    found, lines = load_as_nobody(nobodys / "cache")
    assert len(found.test) == 40 and "kept" not in found.source
    raw = raw_of(nobodys / "cache")
    assert f"  {raw}: cannot be written (Permission denied), so nothing is kept for the next time" in lines
    assert not snapshot(nobodys / "cache")


def test_a_cache_that_may_not_be_entered_is_reported(tiny, nobodys, monkeypatch):
    monkeypatch.setattr(data, "_from_apt", lambda report: tiny)
    raw = raw_of(nobodys / "full")
    raw.chmod(0)
    found, lines = load_as_nobody(nobodys / "full")
    assert len(found.test) == 40 and "kept" not in found.source
    assert f"  {raw}: cannot be looked into: Permission denied" in lines
    assert f"  {raw}: cannot be written (Permission denied), so nothing is kept for the next time" in lines


@pytest.mark.parametrize("mode", [0o555, 0o111])
def test_a_cache_that_may_only_be_read_is_enough(nobodys, mode):
    raw = raw_of(nobodys / "full")
    raw.chmod(mode)
    found, lines = load_as_nobody(nobodys / "full")
    assert found.source == str(raw) and len(lines) == 1


def test_a_file_in_the_cache_that_may_not_be_read_is_an_error(tiny, nobodys, monkeypatch):
    path = raw_of(nobodys / "full") / NAMES[1]
    path.chmod(0)
    with pytest.raises(DataError, match=r"found: +cannot be read: Permission denied\n +to do: +delete it") as caught:
        load_as_nobody(nobodys / "full")
    assert f"{path} is not the file" in str(caught.value)
    with as_nobody():
        path.unlink()  # what the message says
    monkeypatch.setattr(data, "_from_apt", lambda report: tiny)
    found, _ = load_as_nobody(nobodys / "full")
    assert found.source.endswith(f"kept in {path.parent}")


def test_other_folders_that_may_not_be_entered_say_so(tiny, nobodys, monkeypatch):
    monkeypatch.setattr(data, "_from_apt", lambda report: tiny)
    raw = raw_of(nobodys / "full")
    raw.chmod(0)
    monkeypatch.setattr(data, "SYSTEM_FOLDER", raw)
    found, lines = load_as_nobody(nobodys / "cache")
    assert found.source.startswith("apt-get") and f"  {raw}: cannot be looked into: Permission denied" in lines
    monkeypatch.setenv("FASHION_MNIST_DIR", str(raw))
    with pytest.raises(DataError, match=r"found: +cannot be looked into: Permission denied") as caught:
        load_as_nobody(nobodys / "cache")
    assert f"{raw} does not hold" in str(caught.value)


def test_a_full_disk_is_reported_and_left_clean(tiny, shared, apt):
    if not (command := tool("elsewhere").own_mounts()):
        pytest.skip("NOT TESTED: a cache on a full disk, for none can be mounted here.")
    apt()
    (shared / "full").mkdir()
    code = f"from for_data import *; meet_a_full_disk(Path({str(shared)!r}), Path({str(shared / 'full')!r}))"
    script = 'mount -t tmpfs -o size=100k tmpfs "$1" && exec "$2" -c "$3"'  # less than the largest of the tiny files
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    subprocess.run(
        [*command, "sh", "-c", script, "sh", str(shared / "full"), sys.executable, code],
        env=os.environ | {"PYTHONPATH": paths}, check=True,
    )  # fmt: skip
    found = json.loads((shared / "found.json").read_text(encoding="utf-8"))
    assert found["digest"] == data._assemble(tiny, "", torch.device("cpu"), is_sample=False).digest
    raw = raw_of(shared / "full" / "cache")
    line = f"  {raw}: cannot be written (No space left on device), so nothing is kept for the next time"
    assert line in found["lines"]
    assert found["lines"][-1].startswith("apt: ") and "No space left on device" in found["lines"][-1]
    assert found["left"] == []


# --- the downloads themselves, from a server and commands of our own --------------------------------------------------

DOWNLOAD = data._from_torchvision  # before `nowhere` replaces them
APT = data._from_apt


@contextlib.contextmanager
def serving(server):
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def mirror(tiny, tmp_path, monkeypatch):
    """torchvision's mirror: a web server on this machine, with the tiny files. Gives the folder that it serves."""
    from torchvision import datasets

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    served = write(tmp_path / "served", tiny, gz=NAMES)
    monkeypatch.setenv("no_proxy", "*")
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served)))) as url:
        monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [url])
        yield served


def test_torchvisions_download(tiny, mirror, monkeypatch, capfd):
    lines = []
    assert DOWNLOAD(lines.append) == tiny
    assert len(lines) == 1 and "31 MB from http://127.0.0.1" in lines[0]
    assert capfd.readouterr() == ("", ""), "no progress bars"


def test_torchvisions_download_that_is_another_file_says_so(tiny, mirror, monkeypatch):
    path = mirror / f"{NAMES[2]}.gz"
    packed = path.read_bytes()
    path.write_bytes(packed[:-5])
    with pytest.raises(data._Unavailable, match=rf"^http://127\.0\.0\.1:\d+/{NAMES[2]}\.gz is not .*cannot be read"):
        DOWNLOAD(lambda line: None)
    path.write_bytes((mirror / f"{NAMES[0]}.gz").read_bytes())
    monkeypatch.setitem(data.FILES, NAMES[2], data.FILES[NAMES[0]][:1] + data.FILES[NAMES[2]][1:])  # else it's too long
    with pytest.raises(data._Unavailable, match=f"found: [^;]* bytes, SHA-256 [^;]*, which is {NAMES[0]}$"):
        DOWNLOAD(lambda line: None)
    path.write_bytes(packed)
    monkeypatch.setitem(data.FILES, NAMES[2], (5, "0" * 64))
    monkeypatch.setattr(data, "_fetch", lambda url, most: (mirror / url.rpartition("/")[2]).read_bytes())
    with pytest.raises(data._Unavailable, match="expected: 5 bytes, SHA-256 000000000000…"):
        DOWNLOAD(lambda line: None)


def ok(length):
    return f"HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n".encode()


def half(line, over):
    line.sendall(ok(200_000) + b"\x1f\x8b" + bytes(99_998))


def drip(line, over):
    while not over.wait(0.01):
        line.sendall(b"\0")


def reset(line, over):
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def endless(line, over):
    line.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
    while not over.is_set():
        line.sendall(bytes(10_000))


PAGE = b"<!DOCTYPE html>\n<html>\n<title>Welcome to the hotel</title>\n<a href='/login'>Log in</a>\n</html>"
ANSWERS = {  # what the mirror does, one after the other, and what is said about it
    "answers 404": ([b"HTTP/1.0 404 Not Found\r\n\r\n"], "HTTP Error 404: Not Found"),
    "answers with a web page": ([ok(len(PAGE)), PAGE], "a web page (some networks answer so until you log in)"),
    "answers with nothing": ([ok(0)], "found: 0 bytes"),
    "is no web server": ([b"220 mail ready\r\n"], "the answer is not HTTP (220 mail ready)"),
    "hangs up at once": ([], "Remote end closed connection without response"),
    "drops the line half way": ([half], "the connection ended 100,000 bytes too early"),
    "breaks off half way": ([half, reset], ""),  # what is said is the operating system's
    "never ends": ([endless], "sends more than"),
    "hangs": ([lambda line, over: over.wait()], "nothing came for 0.3 s"),
    "sends half and stalls": ([half, lambda line, over: over.wait()], "nothing came for 0.3 s"),
    "drips its header": ([b"HTTP/1.0 200 OK\r\nX-Header: ", drip], "nothing came for 0.3 s"),
    "sends half and drips": ([half, drip], "too slow: "),
}


@pytest.fixture
def bad_mirror(monkeypatch):
    """A function that sets up a mirror of torchvision's which answers each call as told."""
    from torchvision import datasets

    over, servers = threading.Event(), contextlib.ExitStack()

    def set_up(steps):
        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                self.request.recv(2**16)
                with contextlib.suppress(ConnectionError):  # the other side has given up
                    for step in steps:
                        self.request.sendall(step) if isinstance(step, bytes) else step(self.request, over)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        url = servers.enter_context(serving(Server(("127.0.0.1", 0), Handler)))
        monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [url])
        return url

    monkeypatch.setenv("no_proxy", "*")
    yield set_up
    over.set()
    servers.close()


@pytest.mark.parametrize("what", ANSWERS)
def test_a_mirror_is_given_up_that(tiny, tmp_path, bad_mirror, monkeypatch, what):
    steps, said = ANSWERS[what]
    if "nothing came" in said:
        monkeypatch.setattr(data, "NETWORK_TIMEOUT", 0.3)
    if "drips" in what:
        monkeypatch.setattr(data, "PERIOD", 0.2)
    assert_given_up(bad_mirror(steps), said, tiny, tmp_path, monkeypatch)


def assert_given_up(url, said, tiny, cache, monkeypatch):
    """The next source has the data, one line says what was wrong with `url`, and the cache is whole."""
    monkeypatch.setattr(data, "_from_torchvision", DOWNLOAD)
    monkeypatch.setattr(data, "_from_apt", lambda report: tiny)
    lines = []
    found = load_fashion_mnist(cache, report=lines.append)
    assert found.source.startswith("apt-get") and len(found.test) == 40
    (line,) = [line for line in lines if f"torchvision's download: {url}{NAMES[0]}.gz" in line]
    assert said in line and not any("\n" in line for line in lines)
    assert snapshot(cache) == whole_cache(cache, tiny)
    assert socket.getdefaulttimeout() is None, "as it was"


def test_a_proxy_that_is_set_wrong_is_said_and_the_next_source_is_tried(tiny, tmp_path, bad_mirror, monkeypatch):
    monkeypatch.setenv("http_proxy", "http:/none")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # it has looked at the proxies already
    assert_given_up(bad_mirror([]), "is the proxy set right?", tiny, tmp_path, monkeypatch)


@pytest.mark.parametrize("silent", [False, True])
def test_a_mirror_is_given_up_whose_name_is_not_known(tiny, tmp_path, bad_mirror, monkeypatch, silent):
    from torchvision import datasets

    over = threading.Event()

    def getaddrinfo(host, *args, **kwargs):
        assert host == "mirror.invalid"
        over.wait(30 if silent else 0)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    bad_mirror([])
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", ["http://mirror.invalid/"])
    if silent:  # so are name servers behind some firewalls
        monkeypatch.setattr(data, "NETWORK_TIMEOUT", 0.2)
    said = "nothing came for 0.2 s" if silent else "Name or service not known"
    assert_given_up("http://mirror.invalid/", said, tiny, tmp_path, monkeypatch)
    over.set()


def test_the_next_mirror_is_asked_where_one_fails(tiny, mirror, bad_mirror, monkeypatch):
    from torchvision import datasets

    (good,) = datasets.FashionMNIST.mirrors
    bad = bad_mirror(ANSWERS["drops the line half way"][0])
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [bad, good])
    assert DOWNLOAD(lambda line: None) == tiny
    (mirror / f"{NAMES[3]}.gz").unlink()
    with pytest.raises(data._Unavailable, match=f"^{bad}{NAMES[3]}.*; {good}{NAMES[3]}.*404") as caught:
        DOWNLOAD(lambda line: None)
    assert "\n" not in str(caught.value)


@posix
def test_without_a_temporary_folder_the_download_works_and_apt_says_why_not(tiny, mirror, apt, tmp_path, monkeypatch):
    apt()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no such folder"))
    assert DOWNLOAD(lambda line: None) == tiny
    monkeypatch.setattr(data, "SYSTEM_FOLDER", tmp_path / "no system folder")
    monkeypatch.setattr(data, "_from_apt", APT)
    lines = []
    assert load_fashion_mnist(tmp_path / "cache", report=lines.append).is_sample
    (line,) = [line for line in lines if "apt-get download dataset-fashion-mnist: [" in line]
    assert "No such file or directory" in line and "no such folder" in line


APT_GET = """#!/bin/sh
echo "$@" >> {log}
case "$*" in
  *update*) exit {update} ;;
  *Dir::State::lists*download*) cp {deb} . ;;
  *download*) {download} ;;
esac
"""
CANNOT_LOCATE = "echo 'E: Unable to locate package dataset-fashion-mnist' >&2; exit 100"


@pytest.fixture
def apt(tiny, tmp_path, monkeypatch):
    """Commands in the place of apt-get and dpkg-deb; a "package" is a tar file. Gives a function that sets them up."""
    monkeypatch.setattr(data, "SYSTEM_FOLDER", Path("/usr/share/datasets/fashion-mnist"))
    package, log, commands = tmp_path / "p.deb", tmp_path / "log", tmp_path / "commands"
    write(tmp_path / "tree" / "usr/share/datasets/fashion-mnist", tiny, gz=NAMES)
    with tarfile.open(package, "w") as tar:
        tar.add(tmp_path / "tree", ".")
    commands.mkdir()
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")

    def set_up(download=f"cp {package} .", update=0):
        script = APT_GET.format(log=log, deb=package, download=download, update=update)
        for name, text in (("apt-get", script), ("dpkg-deb", '#!/bin/sh\nmkdir "$3" && tar -xf "$2" -C "$3"\n')):
            (commands / name).write_text(text, encoding="utf-8")
            (commands / name).chmod(0o755)
        log.write_text("", encoding="utf-8")
        return lambda: [line.split()[-1] for line in log.read_text(encoding="utf-8").splitlines()]

    return set_up


@posix
def test_apt(tiny, apt):
    calls = apt()
    assert APT(lambda line: None) == tiny
    assert calls() == ["dataset-fashion-mnist"]


@posix
def test_apt_without_package_lists_fetches_its_own(tiny, apt):
    calls, lines = apt(download=CANNOT_LOCATE), []
    assert APT(lines.append) == tiny
    assert calls() == ["dataset-fashion-mnist", "update", "dataset-fashion-mnist"]
    assert "E: Unable to locate package dataset-fashion-mnist; getting newer package lists" in lines[-1]


@posix
def test_apt_that_fails_says_why(apt, monkeypatch):
    apt(download="echo 'E: Failed to fetch it' >&2; echo 'W: and more' >&2; exit 100")
    with pytest.raises(data._Unavailable, match=r"^E: Failed to fetch it$"):
        APT(lambda line: None)
    apt(download=CANNOT_LOCATE, update=7)
    with pytest.raises(data._Unavailable, match=r"^apt-get ended with status 7$"):
        APT(lambda line: None)
    apt(download="true")
    with pytest.raises(data._Unavailable, match=r"^apt-get gave no package$"):
        APT(lambda line: None)
    apt(download="exec sleep 5")
    monkeypatch.setattr(data._run, "__kwdefaults__", {"seconds": 0.2})
    with pytest.raises(data._Unavailable, match=r"^apt-get gave no result in 0.2 s$"):
        APT(lambda line: None)
    apt()
    monkeypatch.setattr(data._run, "__kwdefaults__", {"seconds": 30})
    monkeypatch.setitem(data.FILES, NAMES[1], (5, "0" * 64))
    with pytest.raises(data._Unavailable, match="expected: 5 bytes"):
        APT(lambda line: None)
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    with pytest.raises(data._Unavailable, match=r"^there is no apt-get here$"):
        APT(lambda line: None)


# --- the sample -------------------------------------------------------------------------------------------------------


def test_the_sample_is_stratified_and_licensed(sample):
    for part, per_class in ((sample.train, 550), (sample.validation, 50), (sample.all_train, 600), (sample.test, 100)):
        assert part.labels.bincount().tolist() == [per_class] * 10
    assert "Copyright © 2017 Zalando SE, https://tech.zalando.com" in (data.SAMPLE_FOLDER / "LICENSE").read_text(
        "utf-8"
    )
    assert sum(path.stat().st_size for path in data.SAMPLE_FOLDER.iterdir()) < 3.2e6
    for path in data.SAMPLE_FOLDER.glob("*.gz"):
        assert path.read_bytes()[3:8] == bytes(5), "no name and no date in the gzip header"


def test_the_sample_is_part_of_the_real_data(sample, whole):
    for part, of in ((sample.all_train, whole.all_train), (sample.test, whole.test)):
        images = [(x.numpy().tobytes(), y.item()) for x, y in zip(part.pixels, part.labels, strict=True)]
        real = {(x.numpy().tobytes(), y) for x, y in zip(of.pixels, of.labels.tolist(), strict=True)}
        assert set(images) <= real


def test_the_sample_is_what_its_tool_makes(whole):
    made = tool("make_sample").make_sample(whole)
    assert made == data._read_all(data.SAMPLE_FOLDER, "", data.SAMPLE_FILES)
    assert {name: (len(x), hashlib.sha256(x).hexdigest()) for name, x in made.items()} == data.SAMPLE_FILES


def test_a_broken_sample_is_an_error_too(tmp_path, monkeypatch):
    folder = Path(shutil.copytree(data.SAMPLE_FOLDER, tmp_path / "sample"))
    (folder / f"{NAMES[3]}.gz").write_bytes(b"")
    monkeypatch.setattr(data, "SAMPLE_FOLDER", folder)
    with pytest.raises(DataError, match=rf"{NAMES[3]}\.gz is not the file(?s:.)*git checkout"):
        load_fashion_mnist(tmp_path / "cache", report=lambda line: None)
