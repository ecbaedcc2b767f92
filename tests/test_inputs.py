"""utils/inputs.py: an image of the data is what `batch` gives, a photograph what Fashion-MNIST's and torchvision's
preparations make of it."""

import utils  # noqa: F401, I001
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import AlexNet_Weights, VGG11_Weights, VGG19_BN_Weights

from utils.data import CLASSES, MEAN, STD, Images
from utils.inputs import as_fashion, data_pictures, has_light_background, photo_pictures
from utils.photos import PhotoError, example_photo

GREY, COLOUR = (1, 28, 28), (3, 224, 224)


def framed(inner, outer, size=(90, 90), share=1 / 3):
    """A plain photograph with a square of another grey in its middle, `share` as wide as the shorter side."""
    photo, side = Image.new("RGB", size, (outer,) * 3), round(share * min(size))
    left, top = ((length - side) // 2 for length in size)
    photo.paste((inner,) * 3, (left, top, left + side, top + side))
    return photo


# --- the data ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [28, 32, 56])
def test_images_of_the_data_are_what_batch_gives(tiny, size):
    pictures = data_pictures(tiny.train, (1, size, size), CLASSES, "training images")
    x, labels = tiny.train.batch(slice(3, 9), image_size=size)
    assert torch.equal(pictures.batch(slice(3, 9)), x) and torch.equal(pictures.one(8), x[5:6])
    assert [pictures.names[i] for i in range(3, 9)] == [CLASSES[label] for label in labels]
    assert len(pictures) == len(tiny.train) and pictures.title(4) == f"image 4: {pictures.names[4]}"


def test_what_a_person_sees_are_the_datas_own_bytes(tiny):
    whole = data_pictures(tiny.train, GREY, CLASSES, "images").pixels(5)
    assert whole.dtype == np.uint8 and np.array_equal(whole, tiny.train.pixels[5, 0].numpy())
    in_frame = data_pictures(tiny.train, (1, 32, 32), CLASSES, "images").pixels(5)
    assert np.array_equal(in_frame[2:30, 2:30], whole) and not in_frame[:2].any() and not in_frame[:, 30:].any()


def test_data_that_do_not_fit_are_refused_in_words(tiny):
    with pytest.raises(ValueError, match=r"takes images of 3 channels, and the data's have 1: give photos"):
        data_pictures(tiny.train, COLOUR, CLASSES, "images")
    none = Images(tiny.train.pixels[:0], tiny.train.labels[:0])
    with pytest.raises(ValueError, match=r"^training images must be at least one, got none"):
        data_pictures(none, GREY, CLASSES, "training images")
    assert data_pictures(tiny.train, GREY, CLASSES[:2], "images").names.count("class 9") > 0


def test_the_first_ones_say_of_how_many_they_are(tiny):
    pictures = data_pictures(tiny.train, GREY, CLASSES, "training images")
    some = pictures.first(7)
    assert (len(some), some.kind, some.names) == (7, "of the 220 training images", pictures.names[:7])
    assert some.counted == "7 of the 220 training images" and some.first(1).kind.startswith("of the")
    assert photo_pictures([framed(1, 2)], GREY).counted == "1 photo" and pictures.counted == "220 training images"
    assert torch.equal(some.one(6), pictures.one(6)) and pictures.first(220) is pictures


# --- photographs for a grey network -----------------------------------------------------------------------------------


def test_a_photograph_becomes_a_grey_square_of_28_pixels():
    pixels = as_fashion(framed(200, 20, size=(180, 90)))
    assert (pixels.shape, pixels.dtype) == ((1, 1, 28, 28), torch.uint8)
    assert pixels[0, 0, 14, 14] == 200 and pixels[0, 0, 0, 0] == 20
    wide = (pixels[0, 0] > 110).sum(dim=1)
    assert int((wide > 0).sum()) == int(wide.max()) in (9, 10), "a square stays one: the middle was cut out"
    red = as_fashion(Image.new("RGB", (50, 50), (255, 0, 0)))
    assert int(red[0, 0, 3, 3]) == round(0.299 * 255), "ITU-R 601-2's luma, as Pillow has it"


@pytest.mark.parametrize("size", [28, 32, 64])
def test_it_is_normalised_as_the_data_are(size):
    pictures = photo_pictures([framed(255, 0)], (1, size, size))
    x = pictures.one(0)
    assert x.shape == (1, 1, size, size)
    assert float(x[0, 0, size // 2, size // 2]) == pytest.approx((1 - MEAN) / STD)
    assert float(x[0, 0, 0, 0]) == pytest.approx((0 - MEAN) / STD)
    assert pictures.pixels(0)[size // 2, size // 2] == 255 and pictures.pixels(0)[0, 0] == 0


def test_inverted_it_is_light_on_dark():
    plain, inverted = (photo_pictures([framed(30, 240)], GREY, invert=value).pixels(0) for value in (False, True))
    assert np.array_equal(inverted, 255 - plain) and inverted[14, 14] == 225


def test_a_light_background_is_seen():
    assert has_light_background(framed(0, 250)) and not has_light_background(framed(255, 5))
    assert has_light_background(framed(0, 250, size=(300, 90))), "of the square that is cut out"
    assert has_light_background(framed(0, 250, share=0.78)), "of its rim, not of what there is most of"
    beside = Image.new("RGB", (300, 90), "white")
    beside.paste(framed(255, 0), (105, 0))
    assert not has_light_background(beside)


# --- photographs for a network in colour ------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [VGG11_Weights.DEFAULT, VGG19_BN_Weights.DEFAULT, AlexNet_Weights.DEFAULT])
def test_a_photograph_is_prepared_as_torchvision_says(weights):
    photo = example_photo()
    pictures = photo_pictures([photo], COLOUR)
    assert torch.equal(pictures.one(0)[0], weights.transforms()(photo))
    pixels = pictures.pixels(0)
    assert pixels.shape == (224, 224, 3) and pixels.dtype == np.uint8
    small = photo.resize((256, 300), Image.Resampling.BILINEAR).crop((16, 38, 240, 262))
    assert np.abs(pixels.astype(float) - np.asarray(small)).mean() < 3, "the colours are put back"


def test_another_size_and_a_very_long_photograph():
    pictures = photo_pictures({"long": Image.new("RGB", (4000, 10), "red"), "b": example_photo()}, (3, 64, 64))
    assert pictures.one(0).shape == (1, 3, 64, 64) and pictures.pixels(0)[5, 5].tolist() == [255, 0, 0]
    assert pictures.names == ("long", "b") and pictures.title(1) == "b"


# --- what both share --------------------------------------------------------------------------------------------------


def test_photographs_have_names(tmp_path):
    path = tmp_path / "cat.png"
    framed(1, 2).save(path)
    pictures = photo_pictures([framed(1, 2), path, str(path)], GREY)
    assert pictures.names == ("photo 1", "cat.png", "cat.png (3)") and pictures.kind == "photos"


def test_what_is_no_photograph_is_refused_in_words():
    with pytest.raises(PhotoError, match="begins with"):
        photo_pictures([b"no photograph at all"], GREY)
    for wrong in ([], (), "cat.jpg", None):
        with pytest.raises(ValueError, match=r"^photos must be "):
            photo_pictures(wrong, GREY)
    with pytest.raises(ValueError, match=r"1 channel \(grey\) or 3 \(colour\), and the network takes 2"):
        photo_pictures([framed(1, 2)], (2, 28, 28))
    with pytest.raises(ValueError, match=r"^input_shape must be one image's"):
        photo_pictures([framed(1, 2)], (28, 28))
