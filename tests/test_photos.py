"""utils/photos.py and its picture: what is seen of a photograph is held against arithmetic written out here, uploads
are driven as the browser drives them, in ipywidgets 7 as in 8. No network, no published weights."""

import inspect
import io
import math
import random
import struct
import zlib
from pathlib import Path

import ipywidgets
import matplotlib.cbook
import nbclient
import nbformat
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models import ResNet50_Weights, VGG11_BN_Weights
from torchvision.models.segmentation import FCN_ResNet50_Weights

from utils.photos import PhotoError, Prediction, classify, example_photo, open_photo, photo_upload, uploaded
from utils.plots.photos import predictions
from utils.plots.style import WIDTH

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = VGG11_BN_Weights.IMAGENET1K_V1
CLASSES = WEIGHTS.meta["categories"]
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # ImageNet's, by channel
RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


class MeanColour(nn.Module):
    """1000 scores: class 7 gets the mean of red, 8 of green, 9 of blue, as they come in, the others 0."""

    def __init__(self, num_classes=1000):
        super().__init__()
        self.scale, self.dropout = nn.Parameter(torch.ones(())), nn.Dropout(0.5)
        self.num_classes, self.seen = num_classes, []

    def forward(self, x):
        self.seen.append((x.clone(), self.training))
        scores = torch.zeros(len(x), self.num_classes, dtype=x.dtype)
        scores[:, 7:10] = self.scale * x.mean(dim=(2, 3))
        return self.dropout(scores)


def content_of(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def plain(colour=RED, size=(20, 10), mode="RGB"):
    return Image.new(mode, size, colour)


def corners(image):
    """Top left, top right, bottom left, bottom right."""
    w, h = image.size
    return [image.getpixel(place) for place in ((0, 0), (w - 1, 0), (0, h - 1), (w - 1, h - 1))]


def four_colours(size=(40, 20)):
    image = plain(RED, size)
    w, h = size
    for colour, place in ((GREEN, (w // 2, 0)), (BLUE, (0, h // 2)), (WHITE, (w // 2, h // 2))):
        image.paste(colour, (*place, place[0] + w // 2, place[1] + h // 2))
    return image


# --- to open one ------------------------------------------------------------------------------------------------------


def test_the_example_needs_no_download():
    photo = example_photo()
    assert photo.mode == "RGB" and photo.size == (512, 600)
    assert np.asarray(photo).std() > 30, "a picture, not a plain colour"
    assert "military uniform" in CLASSES


def test_without_matplotlibs_samples_the_example_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(matplotlib.cbook, "_get_data_path", lambda *parts: tmp_path.joinpath(*parts))
    with pytest.raises(FileNotFoundError, match=r"(?s)comes with matplotlib.*found: there is no file.*to do: install"):
        example_photo()


def test_a_photograph_comes_from_a_path_bytes_a_file_or_pillow(tmp_path):
    path = tmp_path / "a photo.png"
    content = content_of(four_colours())
    path.write_bytes(content)
    with path.open("rb") as file:
        opened = [open_photo(source) for source in (path, str(path), file, content, bytearray(content))]
        assert not file.closed, "whoever opened it closes it"
    opened += [open_photo(memoryview(content)), open_photo(io.BytesIO(content)), open_photo(four_colours())]
    for photo in opened:
        assert (photo.mode, photo.size) == ("RGB", (40, 20))
        assert corners(photo) == [RED, GREEN, BLUE, WHITE]
    path.unlink()
    assert opened[0].resize((2, 2)), "it doesn't need its file any more"


ORIENTATIONS = {  # what EXIF's numbers say of the first row and column of what is stored: JEITA CP-3451, 4.6.4
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_photograph_stands_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = content_of(four_colours(), exif=exif)
    assert corners(Image.open(io.BytesIO(content))) == [RED, GREEN, BLUE, WHITE], "as it is stored"
    expected = ORIENTATIONS[orientation](np.asarray(four_colours()))
    assert np.array_equal(np.asarray(open_photo(content)), expected)
    given = Image.open(io.BytesIO(content))
    assert np.array_equal(np.asarray(open_photo(given)), expected)
    assert given.getexif()[0x0112] == orientation, "the picture that was given is as it was"


def test_what_else_the_file_holds_is_left_behind():
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a maker"
    exif.get_ifd(0x8825)[1] = "N"
    photo = open_photo(content_of(four_colours(), "JPEG", exif=exif, comment=b"at home"))
    assert photo.info == {} and not photo.getexif()
    assert b"a maker" not in content_of(photo, "JPEG")


def test_what_is_transparent_becomes_white():
    image = plain((*RED, 255), (3, 1), "RGBA")
    image.putpixel((1, 0), (*RED, 0))
    image.putpixel((2, 0), (*RED, 128))
    half = tuple(round((128 * c + 127 * 255) / 255) for c in RED)
    assert np.asarray(open_photo(content_of(image)))[0].tolist() == [list(RED), list(WHITE), list(half)]

    grey = plain((0, 0), (1, 1), "LA")
    assert open_photo(content_of(grey)).getpixel((0, 0)) == WHITE
    palette = plain(RED).quantize(4)
    assert corners(open_photo(content_of(palette, transparency=palette.getpixel((0, 0))))) == [WHITE] * 4
    assert corners(open_photo(content_of(plain(RED), transparency=RED))) == [WHITE] * 4, "a colour that means it"
    assert corners(open_photo(content_of(plain(RED), transparency=BLUE))) == [RED] * 4


def png_of_16_bits(values):
    """A grey PNG, (H, W) of 0 … 65535, written out by the standard (ISO 15948)."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_grey_of_16_bits_keeps_its_shades():
    values = np.array([[0, 257, 32_896, 65_535]])
    expected = [[0, 1, 128, 255]]
    assert np.asarray(open_photo(png_of_16_bits(values)))[..., 0].tolist() == expected
    dark = open_photo(png_of_16_bits(np.array([[257, 514]])))
    assert np.asarray(dark)[0, :, 0].tolist() == [1, 2], "not stretched"
    for order in ("<u2", ">u2"):
        assert np.asarray(open_photo(Image.fromarray(values.astype(order))))[..., 0].tolist() == expected
    assert np.asarray(open_photo(Image.fromarray(values.astype(np.int32))))[..., 0].tolist() == expected


def test_other_kinds_of_pictures_become_rgb():
    floating = open_photo(Image.fromarray(np.array([[-1.0, 0.0, 3.0]], "float32")))
    assert np.asarray(floating)[0, :, 0].tolist() == [0, 64, 255], "stretched"
    assert open_photo(Image.fromarray(np.array([[3.0]], "float32"))).getpixel((0, 0)) == BLACK, "no range to stretch"
    assert np.asarray(open_photo(plain(200, mode="L").convert("I")))[0, 0].tolist() == [200] * 3
    assert corners(open_photo(content_of(plain(1, mode="1")))) == [WHITE] * 4
    assert corners(open_photo(content_of(plain(77, mode="L")))) == [(77, 77, 77)] * 4
    for form in ("JPEG", "TIFF"):
        inks = open_photo(content_of(plain((0, 255, 255, 0), mode="CMYK"), form))  # no cyan, all magenta and yellow
        assert np.abs(np.asarray(inks).astype(int) - RED).max() < 8
    assert corners(open_photo(content_of(four_colours().quantize(8)))) == [RED, GREEN, BLUE, WHITE]


def test_of_an_animation_the_first_frame():
    frames = [plain(colour) for colour in (RED, GREEN, BLUE)]
    for form in ("GIF", "PNG", "WEBP"):
        content = content_of(frames[0], form, save_all=True, append_images=frames[1:], lossless=True)
        assert Image.open(io.BytesIO(content)).n_frames == 3
        assert corners(open_photo(content)) == [RED] * 4


# What a student may take for a photograph, and what the message must say of it.
NO_PHOTOS = {
    "nothing": (b"", "got nothing in bytes, 0 bytes: copy it again"),
    "text": (b"hello, world", "got bytes, which begins with b'hello, world': open it in another program"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is HEIC, as iPhones write it: export it as JPEG"),
    "film": (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2", "is a film: take a screenshot"),
    "PDF": (b"%PDF-1.7\n", "is a PDF: take a screenshot of the page"),
    "drawing": (b'<?xml version="1.0"?>\n<svg xmlns="x">', "is an SVG drawing: export it as PNG"),
    "web page": (b"\n<!DOCTYPE html><html><img src='cat.jpg'>", "is a web page, not the picture on it: save the"),
    "archive": (b"PK\x03\x04....", "is a ZIP archive or an office document: take the picture out"),
}


@pytest.mark.parametrize(("content", "words"), NO_PHOTOS.values(), ids=NO_PHOTOS)
def test_what_is_no_photograph_is_named(tmp_path, content, words):
    with pytest.raises(PhotoError, match=r"^a photograph must be an image file \(JPEG, PNG, GIF, WebP …\), ") as caught:
        open_photo(content)
    assert words in str(caught.value)
    (tmp_path / "cat.jpg").write_bytes(content)
    with pytest.raises(PhotoError) as caught:
        open_photo(tmp_path / "cat.jpg")
    assert words.replace("bytes,", "cat.jpg,", 1) in str(caught.value) and "cat.jpg" in str(caught.value)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF"])
def test_a_file_that_is_cut_off_is_refused(form):
    content = content_of(example_photo().resize((64, 75)), form)
    with pytest.raises(PhotoError, match=r"^a photograph must be (whole, got bytes, which is cut off|an image file)"):
        open_photo(content[: len(content) // 2])


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_files_open_or_are_refused_and_nothing_else():
    r = random.Random(0)
    refused = 0
    for form in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"):
        exif = Image.Exif()
        exif[0x0112] = 6
        content = content_of(example_photo().resize((24, 28)), form, exif=exif)
        for _ in range(60):
            damaged = bytearray(content)
            for _ in range(r.randrange(1, 8)):
                damaged[r.randrange(len(damaged) if r.random() < 0.5 else 60)] = r.randrange(256)
            try:
                assert open_photo(damaged).mode == "RGB"
            except PhotoError:
                refused += 1
    assert 60 < refused < 360


def test_a_path_that_is_no_photograph_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PhotoError, match=r"got the folder .*: choose another, there are no pictures in it$"):
        open_photo(tmp_path)
    for name in ("Cat.JPG", "dog.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(PhotoError, match=r"got the folder .*: choose one in it, such as Cat.JPG or dog.png$"):
        open_photo(tmp_path)
    with pytest.raises(PhotoError, match=r"^there is no file cat.jpeg: did you mean Cat.JPG\?$"):
        open_photo("cat.jpeg")
    with pytest.raises(PhotoError, match=r"^there is no file zebra.webp: copy it into .* or choose it with photo_upl"):
        open_photo("zebra.webp")
    with pytest.raises(PhotoError, match=r"there isn't even the folder pictures; the notebook looks from "):
        open_photo(Path("pictures/cat.jpg"))
    with pytest.raises(PhotoError, match=r"got the web address https://example.org/cat.jpg: save the picture"):
        open_photo("https://example.org/cat.jpg")
    for impossible in ("dog.png/cat.jpg", "a\0b.jpg", "x" * 5000 + ".jpg", ""):
        with pytest.raises(PhotoError):
            open_photo(impossible)


def test_another_kind_of_source_is_refused(tmp_path):
    for wrong in (None, 7, np.zeros((4, 4, 3), np.uint8), torch.zeros(3, 4, 4), [b"a"]):
        with pytest.raises(ValueError, match=r"^a photograph must be a path, .* got .*: make a picture of an array"):
            open_photo(wrong)
    path = tmp_path / "cat.jpg"
    path.write_text("text", encoding="utf-8")
    with path.open() as file, pytest.raises(ValueError, match=r'^cat.jpg must be opened as bytes, .*\(path, "rb"\)$'):
        open_photo(file)
    file = io.BytesIO(content_of(plain()))
    file.read()
    with pytest.raises(PhotoError, match=r"got nothing in a file object, 0 bytes: .* open it anew"):
        open_photo(file)


def test_a_picture_of_too_many_pixels_is_refused_and_a_good_phones_isnt(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert open_photo(content_of(plain(size=(40, 40)))).size == (40, 40), "more than Pillow warns of, without a warning"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500_000)
    with pytest.raises(PhotoError, match=r"at most 1 million pixels, got more in bytes: make it smaller first$"):
        open_photo(content_of(plain(size=(1001, 1001))))


# --- to classify it ---------------------------------------------------------------------------------------------------


def by_hand(photo):
    """(3, 224, 224): the short side becomes 256 pixels, the middle is cut out, the channels are normalised."""
    w, h = photo.size
    size = (256, int(256 * h / w)) if w <= h else (int(256 * w / h), 256)
    left, top = (round((side - 224) / 2) for side in size)
    cut = photo.resize(size, Image.Resampling.BILINEAR).crop((left, top, left + 224, top + 224))
    return cut, ((np.asarray(cut) / 255 - MEAN) / STD).transpose(2, 0, 1)


@pytest.mark.parametrize("size", [(512, 600), (600, 300), (31, 97), (224, 224), (20, 399)])
def test_the_network_sees_what_torchvision_prepares(size):
    net, photo = MeanColour(), example_photo().resize(size)
    (found,) = classify(net, [photo], WEIGHTS)
    ((x, _),) = net.seen
    assert torch.equal(x[0], WEIGHTS.transforms()(photo)), "torchvision's own"
    cut, expected = by_hand(photo)
    np.testing.assert_allclose(x[0].numpy(), expected, atol=1e-6)
    assert found.seen.mode == "RGB" and np.array_equal(np.asarray(found.seen), np.asarray(cut))


def test_probabilities_are_the_softmax_of_the_scores():
    (found,) = classify(MeanColour(), [plain(RED)], WEIGHTS)
    scores = (np.array([1, 0, 0]) - MEAN) / STD
    total = 997 + sum(math.exp(score) for score in scores)
    assert found.top[0] == (CLASSES[7], pytest.approx(math.exp(scores[0]) / total))
    assert found.label == CLASSES[7] and found.probability == found.top[0][1]
    assert [share for _, share in found.top[1:]] == pytest.approx([1 / total] * 4), "the 997 others are alike"
    (everything,) = classify(MeanColour(), [plain(RED)], WEIGHTS, top=1000)
    assert dict(everything.top)[CLASSES[8]] == pytest.approx(math.exp(scores[1]) / total)
    assert sum(dict(everything.top).values()) == pytest.approx(1)
    assert len(everything.top) == 1000 and list(everything.top) == sorted(everything.top, key=lambda one: -one[1])


def test_photographs_keep_their_order_and_need_not_be_alike(tmp_path):
    (tmp_path / "green.png").write_bytes(content_of(plain(GREEN, (300, 40))))
    sources = [plain(BLUE, mode="RGB"), tmp_path / "green.png", content_of(plain((*RED, 255), mode="RGBA"))]
    found = classify(MeanColour(), sources, WEIGHTS, top=1)
    assert [one.label for one in found] == [CLASSES[9], CLASSES[8], CLASSES[7]]
    assert all(len(one.top) == 1 for one in found)
    assert classify(MeanColour(), (plain(BLUE),), WEIGHTS, top=1) == found[:1], "alone or with others"
    assert classify(MeanColour(), [], WEIGHTS) == []


@pytest.mark.parametrize("weights", [WEIGHTS, "VGG11_BN_Weights.IMAGENET1K_V1", "VGG11_BN_Weights.DEFAULT"])
def test_weights_by_member_or_full_name(weights):
    assert classify(MeanColour(), [plain()], weights)[0].label == CLASSES[7]


def test_each_weights_own_preparation_is_used():
    net, photo = MeanColour(), example_photo()
    classify(net, [photo], ResNet50_Weights.IMAGENET1K_V2)  # made smaller to 232 pixels, not 256
    other = ResNet50_Weights.IMAGENET1K_V2.transforms()(photo)
    assert torch.equal(net.seen[0][0][0], other) and not torch.equal(other, WEIGHTS.transforms()(photo))


@pytest.mark.parametrize(
    "wrong",
    [None, 1, "IMAGENET1K_V1", "DEFAULT", "", "VGG11_BN_Weights.V1", "Vgg_Weights.DEFAULT", "a.b.c", VGG11_BN_Weights],
    ids=repr,
)
def test_wrong_weights_are_refused(wrong):
    with pytest.raises(ValueError, match=r"such as 'VGG11_BN_Weights.IMAGENET1K_V1', got ") as caught:
        classify(MeanColour(), [plain()], wrong)
    assert repr(wrong) in str(caught.value)


def test_the_network_is_in_evaluation_mode_and_left_as_it_was():
    net = MeanColour()
    net.train()
    net.dropout.eval()  # one part is frozen
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = classify(net, [plain(), plain()], WEIGHTS)
    assert [training for _, training in net.seen] == [False, False] and found[0] == found[1], "no dropout"
    assert net.training and not net.dropout.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.scale.grad is None and not any(x.requires_grad for x, _ in net.seen)
    net(torch.ones(1, 3, 2, 2)).sum().backward()
    assert net.scale.grad is not None, "it can be trained as before"

    net.forward = lambda x: 1 / 0
    with pytest.raises(ZeroDivisionError):
        classify(net, [plain()], WEIGHTS)
    assert net.training and not net.dropout.training


def test_the_networks_precision_is_kept():
    for dtype in (torch.bfloat16, torch.float64):
        net = MeanColour().to(dtype)
        (found,) = classify(net, [plain()], WEIGHTS)
        assert net.seen[0][0].dtype == dtype and found.label == CLASSES[7]
        assert math.isfinite(found.probability)


def test_a_network_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"^net must be a Module, such as vgg11_bn\(weights=weights\), got 'vgg11'"):
        classify("vgg11", [plain()], WEIGHTS)
    with pytest.raises(ValueError, match=r"each of the weights' 1000 classes, \(1, 1000\), got \(1, 10\): take the"):
        classify(MeanColour(10), [plain()], WEIGHTS)
    with pytest.raises(ValueError, match=r"given \(1, 3, 224, 224\): .*expected input\[1, 3, 224, 224\] to have 1 cha"):
        classify(nn.Sequential(nn.Conv2d(1, 4, 3)), [plain()], WEIGHTS)
    with pytest.raises(ValueError, match=r"^net must have weights, got one on the meta device"):
        classify(MeanColour().to("meta"), [plain()], WEIGHTS)
    spoilt = MeanColour()
    spoilt.scale.data.fill_(math.nan)
    with pytest.raises(ValueError, match=r"^net's scores must be finite, .* \(scale holds nan\): load the weights"):
        classify(spoilt, [plain()], WEIGHTS)
    with pytest.raises(ValueError, match=r"each of the weights' 21 classes, \(1, 21\), got \(1, 1000\)"):
        classify(MeanColour(), [plain()], FCN_ResNet50_Weights.DEFAULT)


def test_wrong_photos_are_refused():
    for one in (plain(), "cat.jpg", Path("cat.jpg"), b"content"):
        with pytest.raises(ValueError, match=r"^photos must be a list of them, got one, .*: write \[photo\]$"):
            classify(MeanColour(), one, WEIGHTS)
    with pytest.raises(PhotoError, match=r"^photos\[1\] must be less than 20 times as long as wide, got 10 × 201 pix"):
        classify(MeanColour(), [plain(), plain(size=(10, 201))], WEIGHTS)
    with pytest.raises(PhotoError, match="got nothing in bytes"):
        classify(MeanColour(), [b""], WEIGHTS)
    for top in (0, 1001, 2.0, True):
        with pytest.raises(ValueError, match=r"^top must be "):
            classify(MeanColour(), [plain()], WEIGHTS, top=top)


# --- to upload one ----------------------------------------------------------------------------------------------------


def test_uploads_of_ipywidgets_7_and_8():
    seven = {
        "cat.jpg": {"metadata": {"name": "cat.jpg", "type": "image/jpeg", "size": 3}, "content": b"cat"},
        "dog.png": {"metadata": {"name": "dog.png", "type": "image/png", "size": 3}, "content": b"dog"},
    }
    eight = (
        {"name": "cat.jpg", "type": "image/jpeg", "size": 3, "content": memoryview(b"cat")},
        {"name": "dog.png", "type": "image/png", "size": 3, "content": memoryview(b"dog")},
    )
    assert uploaded(seven) == uploaded(eight) == [("cat.jpg", b"cat"), ("dog.png", b"dog")]
    assert uploaded({}) == uploaded(()) == []
    assert all(type(content) is bytes for _, content in uploaded(eight))


def upload(box, *files):
    """Set the button's state as the browser does once the files, (name, content) each, are read."""
    line, now = box.children[0], 1_700_000_000_000
    about = [{"name": name, "type": "", "size": len(content)} for name, content in files]
    if ipywidgets.__version__.startswith("7."):
        state = {
            "metadata": [{**one, "lastModified": now} for one in about],
            "data": [memoryview(content) for _, content in files],
            "_counter": len(files),
            "error": "",
        }
    else:
        contents = [{"last_modified": now, "content": memoryview(content)} for _, content in files]
        state = {"value": [one | content for one, content in zip(about, contents, strict=True)], "error": ""}
    line.children[0].set_state(state)


def test_each_uploaded_photograph_is_handed_over_opened():
    exif = Image.Exif()
    exif[0x0112] = 6
    taken = []
    box = photo_upload(taken.append)
    upload(box, ("a.png", content_of(four_colours(), exif=exif)), ("b.png", content_of(plain((*BLUE, 0), mode="RGBA"))))
    assert [(photo.mode, photo.size) for photo in taken] == [("RGB", (20, 40)), ("RGB", (20, 10))]
    assert corners(taken[0]) == [BLUE, RED, WHITE, GREEN] and corners(taken[1]) == [WHITE] * 4


def test_the_same_file_can_be_uploaded_again_and_nothing_is_kept():
    taken = []
    box = photo_upload(lambda photo: taken.append(photo.getpixel((0, 0))))
    button = box.children[0].children[0]
    for _ in range(3):
        upload(box, ("a.png", content_of(plain())))
    upload(box, ("b.png", content_of(plain(BLUE))))
    assert taken == [RED] * 3 + [BLUE]
    assert not box.children[0].children[0].value, "a fresh button, which counts from 0"
    assert box.children[0].children[0] is not button and button.comm is None, "the old one is closed"
    assert len(box.children) == len(box.children[0].children) == 2


def test_the_button_asks_for_images_and_says_how_large():
    button, hint = photo_upload(print).children[0].children
    assert (button.accept, button.multiple) == ("image/*", True)
    assert "10 MB" in hint.value


def test_what_is_no_photograph_is_refused_in_words_and_the_next_one_comes(capsys):
    taken = []
    box = photo_upload(taken.append)
    upload(box, ("cat.heic", NO_PHOTOS["HEIC"][0]), ("dog.png", content_of(plain())), ("no.jpg", b""))
    assert len(taken) == 1
    out = capsys.readouterr().out
    assert "A photograph must be an image file (JPEG, PNG, GIF, WebP …), but cat.heic is HEIC, as iPhones" in out
    assert "got nothing in no.jpg, 0 bytes" in out
    upload(box, ("again.png", content_of(plain())))
    assert len(taken) == 2 and "again.png" not in capsys.readouterr().out


def test_an_error_of_the_callback_surfaces_and_the_button_works_on():
    def on_photo(photo):
        if photo.getpixel((0, 0)) == RED:
            raise KeyError("a mistake in the callback")
        taken.append(photo)

    taken = []
    box = photo_upload(on_photo)
    with pytest.raises(KeyError, match="a mistake in the callback"):
        upload(box, ("a.png", content_of(plain(RED))))
    upload(box, ("b.png", content_of(plain(BLUE))))
    assert len(taken) == 1


def test_a_callback_is_needed():
    for wrong in (None, "classify", classify(MeanColour(), [], WEIGHTS)):
        with pytest.raises(ValueError, match=r"^on_photo must be a function of one photograph, got .*: pass its name"):
            photo_upload(wrong)


CELLS = [
    f"""
import io, ipywidgets
from PIL import Image
from utils.photos import photo_upload
{inspect.getsource(upload)}
def png(colour):
    file = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(file, "PNG")
    return file.getvalue()
def on_photo(photo):
    print("printed", photo.size)
    if photo.getpixel((0, 0)) == (255, 0, 0):
        raise KeyError("a mistake")
    return photo
box = photo_upload(on_photo)
box""",
    'upload(box, ("first.png", png("lime")))',
    'upload(box, ("no.jpg", b"%PDF"), ("b.png", png("blue")))',
    'upload(box, ("red.png", png("red")), ("c.png", png("blue")))',
]


@pytest.fixture(scope="module")
def executed():
    """After each cell what stands below the button; and the executed notebook."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    client = nbclient.NotebookClient(
        notebook, timeout=60, allow_errors=True, resources={"metadata": {"path": str(ROOT)}}
    )
    after = []

    def remember(cell, cell_index, **_):
        outputs = [state["outputs"] for state in client.widget_state.values() if state["_model_name"] == "OutputModel"]
        after.append([dict(one) for one in outputs[-1]] if outputs else [])

    client.on_cell_executed = remember
    client.execute()
    return after, notebook


def test_in_a_notebook_everything_appears_below_the_button(executed):
    after, notebook = executed
    assert not [o for cell in notebook.cells[:3] for o in cell.outputs if o.output_type == "error"]
    assert not notebook.cells[1].outputs and not notebook.cells[2].outputs, "nothing beside it"
    text, picture = after[1]
    assert text["text"] == "printed (4, 4)\n" and "image/png" in picture["data"]
    words, picture = after[2]
    assert words["text"].startswith("A photograph must be an image file (JPEG, PNG, GIF, WebP …), but no.jpg is a PDF")
    assert words["text"].endswith("printed (4, 4)\n") and "image/png" in picture["data"], "the last upload is gone"


def test_in_a_notebook_an_error_is_shown_below_the_button_and_fails_the_cell(executed):
    after, notebook = executed
    text, error, more, picture = after[3]
    assert (error["ename"], error["evalue"]) == ("KeyError", "'a mistake'")
    assert "on_photo" in "".join(error["traceback"])
    assert text["text"] == more["text"] == "printed (4, 4)\n" and "image/png" in picture["data"], "the next one comes"
    (failed,) = [o for o in notebook.cells[3].outputs if o.output_type == "error"]
    assert failed.ename == "KeyError"


# --- the picture ------------------------------------------------------------------------------------------------------


def prediction(*top, colour=RED):
    return Prediction(top, plain(colour, (224, 224)))


TERRIERS = prediction(
    ("American Staffordshire terrier", 0.99996), ("black and gold garden spider", 0.0123), ("tie", 0.0001)
)
UNIFORM = prediction(("military uniform", 0.873), ("tie", 0.1), colour=BLUE)


def bars_of(axes):
    """Class, length, and what is written at the end, from above."""
    names = [text.get_text() for text in axes.get_yticklabels()]
    bars = sorted(axes.patches, key=lambda bar: axes.transData.transform((0, bar.get_y()))[1], reverse=True)
    return [(name, bar.get_width(), end.get_text()) for name, bar, end in zip(names, bars, axes.texts, strict=True)]


def test_the_bars_are_the_probabilities():
    figure = predictions([TERRIERS, UNIFORM])
    figure.draw_without_rendering()
    _, first, _, second = figure.axes
    assert bars_of(first) == [
        ("American Staffordshire terrier", 0.99996, "> 99.9 %"),
        ("black and gold garden spider", 0.0123, "1.2 %"),
        ("tie", 0.0001, "< 0.1 %"),
    ]
    assert bars_of(second) == [("military uniform", 0.873, "87.3 %"), ("tie", 0.1, "10.0 %")]
    lengths = [axes.transData.transform((1, 0))[0] - axes.transData.transform((0, 0))[0] for axes in (first, second)]
    assert lengths[0] == pytest.approx(lengths[1]), "one scale for all"


def test_beside_the_bars_is_what_the_network_saw():
    figure = predictions([TERRIERS, UNIFORM])
    pictures = [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]
    assert [picture[0, 0].tolist() for picture in pictures] == [list(RED), list(BLUE)]
    assert np.asarray(predictions(UNIFORM).axes[0].images[0].get_array())[0, 0].tolist() == list(BLUE), "one alone"


def test_title_names_and_alternative_text():
    figure = predictions([TERRIERS, UNIFORM], ["VGG-11", "VGG-16"], title="Two networks")
    assert figure.title == "Two networks" and figure.get_suptitle() == "Two networks"
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["", "VGG-11", "", "VGG-16"]
    assert figure.alt == (
        "2 photographs, and how likely the network finds which class. VGG-11: American Staffordshire terrier > 99.9 %, "
        "black and gold garden spider 1.2 %, tie < 0.1 %. VGG-16: military uniform 87.3 %, tie 10.0 %."
    )
    assert predictions(UNIFORM).alt.startswith("1 photograph, and how likely")


@pytest.mark.parametrize("number", [1, 2, 5, 12])
def test_nothing_is_cut_off_or_written_over(number):
    longest = sorted(CLASSES, key=len)[-number:]
    one = prediction(*((name, 1 - i / 100) for i, name in enumerate(longest)))
    other = prediction((" ".join(["a label of somebody else's"] * 9), 0.5), ("y" * 300, 0.1))
    for found, names in (([one], None), ([one, UNIFORM, one], ["VGG-11", "VGG-13", "VGG-19"]), ([other], None)):
        figure = predictions(found, names)
        figure.draw_without_rendering()
        bars = [axes for axes in figure.axes if not axes.images]
        texts = [t for axes in bars for t in (*axes.texts, *axes.get_yticklabels(), axes._left_title)]
        boxes = [t.get_window_extent() for t in [*texts, figure._suptitle] if t.get_text()]
        pictures = [axes.images[0].get_window_extent() for axes in figure.axes if axes.images]
        for box in [*boxes, *pictures]:
            assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 + 1
            assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1 + 1
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(another) for another in [*boxes[:i], *pictures])
        for picture in pictures:
            assert 1.8 < picture.width / figure.dpi < 2.4 and picture.width == pytest.approx(picture.height)
        assert all(t.get_size() >= 12 for t in texts)
        assert figure.get_figwidth() == WIDTH


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match=r"^found must hold at least one prediction to draw, got none"):
        predictions([])
    with pytest.raises(ValueError, match=r"^found\[0\] must be a prediction, such as classify\(.*, got \('cat', 0.5\)"):
        predictions([("cat", 0.5)])
    with pytest.raises(ValueError, match=r"^names must be one a prediction: expected 1, got 2"):
        predictions([UNIFORM], ["a", "b"])


def test_from_the_photograph_to_the_picture():
    figure = predictions(classify(MeanColour(), [example_photo()], WEIGHTS))
    data, about = figure._repr_mimebundle_()
    assert data["image/png"] and about["image/png"]["alt"] == figure.alt
