"""The feature-map viewer: every control is moved, and what is then drawn is held against torch and the data's bytes."""

import utils  # noqa: F401, I001
import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from test_photos import content_of
from test_photos import upload as upload_into
from torch import nn

from utils.architectures import ALEXNET_SMALL, LENET, vgg_like
from utils.data import CLASSES, MEAN, STD, Images
from utils.models import build
from utils.photos import PhotoError, classify, example_photo
from utils.plots.features import TILES, ChannelView, Patch, channel_view, exciting_patches, mosaic, number, placed
from utils.plots.sheet import Box, Pixels, Stroke, Words, text_width
from utils.plots.style import COLOURS
from utils.widgets import FeatureViewer, feature_viewer, subjects
from utils.widgets.parts import Explorer

WEIGHTS = torchvision.models.VGG11_Weights.IMAGENET1K_V1
MLP = nn.Sequential(nn.Flatten(), nn.Linear(784, 12), nn.ReLU(), nn.Linear(12, 10))


def net_of(architecture, seed=0):
    torch.manual_seed(seed)
    return build(architecture)


@pytest.fixture(scope="module")
def nets():
    """LeNet with one dead channel, a small VGG with batch norm, and a network without convolutions."""
    lenet = net_of(LENET)
    lenet.features[0].weight.data[4], lenet.features[0].bias.data[4] = 0, -1
    return {"LeNet": lenet, "VGG": net_of(vgg_like((1, 2), (4, 8), norm="batch")).eval(), "dense": MLP}


@pytest.fixture
def viewer(nets, tiny):
    return feature_viewer(nets, tiny)


@pytest.fixture(scope="module")
def colour():
    """A network for colour images of 32 pixels, with ImageNet's thousand scores."""
    return net_of(vgg_like((1, 1), (4, 6), in_channels=3, image_size=32, num_classes=1000))


def one(drawing, name):
    (mark,) = drawing.drawn.named(name)
    return mark


def all_words(viewer):
    return " ".join([*viewer.maps.drawn.words(), *viewer.patches.drawn.words()])


def stretched(values):
    """From the least to the largest: 0 … 255."""
    low, high = values.min(), values.max()
    return ((values - low) / (high - low) * 255).round().numpy().astype(np.uint8)


def maps_in(net, layer, image):
    """What torch's own hook sees behind `layer`."""
    seen = []
    hook = layer.register_forward_hook(lambda module, args, output: seen.append(output.clone()))
    with torch.no_grad():
        net.eval()(image)
    hook.remove()
    return seen[0][0]


# --- one image --------------------------------------------------------------------------------------------------------


def test_it_starts_with_the_first_network_layer_channel_and_image(viewer):
    assert isinstance(viewer, FeatureViewer) and isinstance(viewer, Explorer)
    found = (viewer.network, viewer.layer, viewer.channel, viewer.image, viewer.is_after, viewer.source)
    assert found == ("LeNet", 1, 0, 0, True, "images")
    assert viewer.maps.drawn and viewer.patches.drawn and not viewer.message.value


def test_the_image_is_the_datas_and_its_class_is_named(viewer, tiny):
    viewer.image = 7
    assert viewer.controls["image"].value == 7
    assert np.array_equal(one(viewer.maps, "image").pixels, tiny.validation.pixels[7, 0])
    assert f"image 7: {CLASSES[tiny.validation.labels[7]]}" in viewer.maps.drawn.words()
    viewer.controls["image"].value = 3  # by hand
    assert viewer.image == 3
    assert np.array_equal(one(viewer.maps, "image").pixels, tiny.validation.pixels[3, 0])


def test_images_are_named_by_your_own_classes(nets, tiny):
    viewer = feature_viewer(nets["LeNet"], tiny, classes=[f"digit {i}" for i in range(10)])
    assert f"image 0: digit {tiny.validation.labels[0]}" in viewer.maps.drawn.words()
    shown = viewer.patches.drawn.named("value")
    assert shown and all(" digit " in mark.words for mark in shown)


def test_the_prediction_is_the_softmax_of_the_networks_scores(viewer, nets, tiny):
    for name, net in nets.items():
        viewer.network = name
        viewer.image = 5
        with torch.no_grad():
            shares = net.eval()(tiny.validation.batch(slice(5, 6))[0])[0].softmax(dim=0)
        best = int(shares.argmax())
        assert f"{name}: {CLASSES[best]} {100 * shares[best]:.1f} %" in all_words(viewer)


@pytest.mark.parametrize(
    ("layer", "is_after", "place"), [(1, True, 1), (1, False, 0), (2, True, 4), (2, False, 3)], ids=str
)
def test_the_map_is_what_the_layer_gives(viewer, nets, tiny, layer, is_after, place):
    viewer.layer, viewer.is_after, viewer.channel, viewer.image = layer, is_after, 3, 2
    net = nets["LeNet"]
    maps = maps_in(net, net.features[place], tiny.validation.batch(slice(2, 3))[0])
    assert np.array_equal(one(viewer.maps, "map").pixels, stretched(maps[3]))
    words = f"{'after' if is_after else 'before'} ReLU: {number(float(maps[3].min()))} (black) to"
    assert words in all_words(viewer)


def test_before_the_activation_is_behind_batch_norm(viewer, nets, tiny):
    viewer.network, viewer.layer, viewer.channel, viewer.is_after = "VGG", 2, 5, False
    net = nets["VGG"]
    maps = maps_in(net, net.features[5], tiny.validation.batch(slice(1))[0])
    assert isinstance(net.features[5], nn.BatchNorm2d)
    assert np.array_equal(one(viewer.maps, "map").pixels, stretched(maps[5]))


def test_all_maps_stand_on_one_scale_with_the_chosen_one_framed(viewer, nets, tiny):
    viewer.layer, viewer.channel = 2, 13
    net = nets["LeNet"]
    maps = maps_in(net, net.features[4], tiny.validation.batch(slice(1))[0])
    gallery, frame = one(viewer.maps, "all maps"), one(viewer.maps, "chosen")
    assert gallery.pixels.shape == (30, 70), "10×10 pixels a map, seven maps in a row"
    assert np.array_equal(gallery.pixels[10:20, 60:70], stretched(maps)[13])
    assert (gallery.pixels[20:, 20:] == 255).all(), "no more maps"
    side = gallery.width / 7
    assert (frame.x, frame.y) == (gallery.x + 6 * side, gallery.y + side)
    assert "All 16 maps of conv 2, after ReLU, on one scale" in viewer.maps.drawn.words()


def test_orange_in_the_image_is_what_the_largest_number_depends_on(viewer, nets, tiny):
    viewer.layer, viewer.channel, viewer.image = 2, 1, 4
    net, image = nets["LeNet"].eval(), tiny.validation.batch(slice(4, 5))[0].requires_grad_()
    own = net.features[:5](image)[0, 1]
    own.max().backward()
    reached = image.grad[0, 0].nonzero()
    picture, box = one(viewer.maps, "image"), one(viewer.maps, "sees")
    pixel = picture.width / 28
    top, left = (box.y - picture.y) / pixel, (box.x - picture.x) / pixel
    assert (reached >= torch.tensor([top, left]) - 1e-6).all()
    assert (reached < torch.tensor([top + box.height / pixel, left + box.width / pixel]) + 1e-6).all()
    shape = own.shape
    row, column = divmod(int(own.argmax()), shape[1])
    map_, largest = one(viewer.maps, "map"), one(viewer.maps, "largest")
    assert largest.x + largest.width / 2 == pytest.approx(map_.x + (column + 0.5) * map_.width / shape[1])
    assert largest.y + largest.height / 2 == pytest.approx(map_.y + (row + 0.5) * map_.height / shape[0])
    assert "sees 14×14 px" in all_words(viewer), "5 + 1 + 4·2: lesson 01's arithmetic"


# --- the filter -------------------------------------------------------------------------------------------------------


def test_a_filter_of_the_first_layer_is_red_above_0_and_blue_below(viewer, nets):
    viewer.channel = 2
    weights = nets["LeNet"].features[0].weight[2, 0].detach().numpy()
    pixels = one(viewer.maps, "filter").pixels.astype(int)
    limit = float(nets["LeNet"].features[0].weight.detach().abs().max())
    clear = abs(weights) > 0.02 * limit
    assert (((pixels[..., 0] > pixels[..., 2]) == (weights > 0)) | ~clear).all()
    minus = viewer.maps.drawn.named("minus")
    assert len(minus) == (weights < -0.15 * limit).sum() > 0, "to be read in grey"
    assert "filter 2 of conv 1: 5×5" in viewer.maps.drawn.words()
    assert f"weights from {number(weights.min())} to {number(weights.max())}" in all_words(viewer)


def test_of_a_deeper_filter_the_strongest_slices_are_shown(viewer, nets):
    viewer.network, viewer.layer, viewer.channel = "VGG", 3, 6
    kernel = nets["VGG"].features[7].weight[6].detach()
    order = sorted(range(8), key=lambda i: -float(kernel[i].square().sum()))[:6]
    assert [mark.words for mark in viewer.maps.drawn.named("slice of")] == [f"of {i}" for i in order]
    for mark, i in zip(viewer.maps.drawn.named("filter"), order, strict=True):
        reddest = np.unravel_index((mark.pixels[..., 0].astype(int) - mark.pixels[..., 2]).argmax(), (3, 3))
        assert kernel[i][reddest] == kernel[i].max()
    assert f"the 6 strongest of its 8 slices; “of {order[0]}” looks at map {order[0]} of the" in all_words(viewer)
    viewer.network, viewer.layer = "LeNet", 2
    assert "its 6 slices" in all_words(viewer), "all of them"


def test_a_filter_of_a_colour_network_is_a_colour_picture(colour):
    viewer = feature_viewer(colour)
    viewer.channel = 1
    kernel = colour.features[0].weight[1].detach()
    assert np.array_equal(one(viewer.maps, "filter").pixels, stretched(kernel.permute(1, 2, 0)))
    assert not viewer.maps.drawn.named("minus") and "red, green and blue" in all_words(viewer)


def test_a_filter_that_looks_at_one_map_says_which():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4))
    viewer = feature_viewer(net, images_of(3))
    viewer.layer, viewer.channel = 2, 2
    assert "it looks at map 2 of the layer before alone" in all_words(viewer)
    assert viewer.controls["is_after"].disabled and "no activation follows" in all_words(viewer)
    assert "the network gives no scores for classes." in all_words(viewer)


def images_of(number):
    pixels = torch.randint(256, (number, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Images(pixels, torch.arange(number) % 10)


# --- what excites it --------------------------------------------------------------------------------------------------


def test_the_patches_are_those_of_a_search_through_all_training_images(viewer, nets, tiny):
    viewer.layer, viewer.channel = 2, 6
    net = nets["LeNet"].eval()
    with torch.no_grad():
        maps = net.features[:5](tiny.train.batch(slice(None))[0])[:, 6]
    values, images = maps.flatten(1).max(dim=1).values.sort(descending=True)
    shown = viewer.patches.drawn.named("value")
    assert [mark.words.split()[0] for mark in shown] == [number(value) for value in values[:9].tolist()]
    for i, (patch, whole) in enumerate(zip(*map(viewer.patches.drawn.named, ("patch", "whole")), strict=True)):
        image, own = tiny.train.pixels[images[i], 0].numpy(), maps[images[i]]
        row, column = divmod(int(own.argmax()), own.shape[1])
        top, left = 2 * row - 2, 2 * column - 2  # padding 2, one pooling
        assert np.array_equal(patch.pixels, image[max(0, top) : top + 14, max(0, left) : left + 14])
        assert np.array_equal(whole.pixels, image)
        assert shown[i].words.endswith(CLASSES[tiny.train.labels[images[i]]])
    assert "220 training images searched: the largest number (after ReLU) of each, and of those the" in all_words(
        viewer
    )


def test_the_only_one_that_is_excited_is_the_largest_and_not_the_1_largest(viewer):
    found = viewer._search()
    assert viewer._note(*found, 1, True).endswith("of each, and of those the largest.")
    assert viewer._note(*found, 2, True).endswith("of each, and of those the 2 largest.")


def test_a_part_of_the_training_images_is_searched_and_how_many_is_said(monkeypatch, nets, tiny):
    monkeypatch.setattr(subjects, "images_to_search", lambda layer, device: 50)
    viewer = feature_viewer(nets, tiny)
    assert "50 of the 220 training images searched" in all_words(viewer)
    found, pictures = viewer._subject.found(1, True)
    assert len(found) == len(pictures) == 50


def test_each_layer_is_searched_once(monkeypatch, viewer):
    searched = []
    search = subjects.excitations
    monkeypatch.setattr(
        subjects, "excitations", lambda net, tap, batches: searched.append(tap) or search(net, tap, batches)
    )
    for layer in (2, 1, 2):
        viewer.layer = layer
        for channel in range(4):
            viewer.channel = channel
        viewer.image = layer
    assert [tap.name for tap in searched] == ["features.4"], "the first layer was searched as it was built"
    viewer.is_after = False
    assert [tap.name for tap in searched] == ["features.4", "features.3"]


def test_a_dead_channel_is_said_to_be_excited_by_nothing(viewer):
    viewer.channel = 4
    assert viewer.patches.drawn.named("patch") == []
    assert "Nothing in 220 training images: this channel is 0 everywhere." in all_words(viewer)
    assert "after ReLU: 0 everywhere" in all_words(viewer)
    assert not viewer.maps.drawn.named("sees") and not viewer.maps.drawn.named("largest")
    viewer.is_after = False
    assert "this channel is -1 everywhere" in all_words(viewer)


def test_training_the_network_further_makes_what_was_found_old(tiny):
    net = net_of(LENET)
    viewer = feature_viewer(net, tiny)
    before = viewer.picture().alt
    with torch.no_grad():
        net.features[0].weight.neg_()
    viewer.channel = 1
    viewer.channel = 0
    assert viewer.picture().alt != before
    maps = maps_in(net, net.features[1], tiny.validation.batch(slice(1))[0])
    assert np.array_equal(one(viewer.maps, "map").pixels, stretched(maps[0]))


def test_the_same_images_are_looked_at_and_searched_where_only_those_are_given(nets, tiny):
    viewer = feature_viewer(nets["LeNet"], tiny.test)
    assert viewer.controls["image"].max == 99 and "100 images searched" in all_words(viewer)
    assert np.array_equal(one(viewer.maps, "image").pixels, tiny.test.pixels[0, 0])


def test_larger_images_are_framed_as_in_training(tiny):
    net = net_of(vgg_like((1,), (4,), image_size=32))
    viewer = feature_viewer({"32": net}, tiny)
    picture = one(viewer.maps, "image").pixels
    assert np.array_equal(picture[2:30, 2:30], tiny.validation.pixels[0, 0]) and not picture[:2].any()


# --- networks ---------------------------------------------------------------------------------------------------------


def test_another_network_has_its_own_layers_and_channels(viewer):
    viewer.layer, viewer.channel, viewer.image = 2, 15, 8
    viewer.controls["network"].value = "VGG"
    assert (viewer.network, viewer.layer, viewer.channel, viewer.image) == ("VGG", 2, 7, 8), "what exists stays"
    assert [text for text, _ in viewer.controls["layer"].options] == [
        "conv 1: 3×3, 1 → 4",
        "conv 2: 3×3, 4 → 8",
        "conv 3: 3×3, 8 → 8",
    ]
    assert viewer.controls["channel"].max == 7
    viewer.controls["layer"].value = 1
    assert (viewer.layer, viewer.channel, viewer.controls["channel"].max) == (1, 3, 3)
    viewer.controls["layer"].value = 3
    viewer.network = "LeNet"
    assert viewer.layer == 2, "it has no third"


def test_a_network_without_convolutions_has_nothing_to_show_but_its_prediction(viewer, tiny):
    viewer.network = "dense"
    assert viewer.layer == 0 and viewer.controls["layer"].options == (("no convolutions", 0),)
    controls = (viewer.controls["layer"], viewer.controls["channel"], viewer.controls["is_after"])
    assert all(control.disabled for control in controls)
    assert not any(viewer.maps.drawn.named(name) for name in ("map", "all maps", "filter", "sees"))
    assert "This network has none" in all_words(viewer) and "no channels to excite" in all_words(viewer)
    for name, value in (("layer", 1), ("channel", 0)):
        with pytest.raises(ValueError, match=rf"^{name} can't be set: dense has no convolutions"):
            setattr(viewer, name, value)
    viewer.image = 6
    assert np.array_equal(one(viewer.maps, "image").pixels, tiny.validation.pixels[6, 0])
    viewer.network = "LeNet"
    assert not any(control.disabled for control in controls) and viewer.maps.drawn.named("map")


def test_one_network_needs_no_name_and_no_list(nets, tiny):
    viewer = feature_viewer(nets["LeNet"], tiny)
    assert viewer.controls["network"].layout.display == "none"
    assert feature_viewer(nets, tiny).controls["network"].layout.display == ""


@pytest.mark.parametrize("name", ["alexnet", "vgg11_bn"])
def test_torchvisions_networks_can_be_looked_into(name, tiny):
    torch.manual_seed(0)
    with torch.device("meta"):
        net = getattr(torchvision.models, name)()
        net.classifier = nn.Linear(
            512 * 7 * 7 if name == "vgg11_bn" else 256 * 6 * 6, 10
        )  # the large ones take seconds
    net.to_empty(device="cpu").load_state_dict({n: 0.05 * torch.rand(w.shape) for n, w in net.state_dict().items()})
    net.input_shape = (3, 96, 96)
    viewer = feature_viewer({name: net}, photos=[example_photo()])
    last = len(viewer.controls["layer"].options)
    assert last == {"alexnet": 5, "vgg11_bn": 8}[name]
    viewer.layer = last
    assert viewer.maps.drawn.named("map") and viewer.maps.drawn.named("sees")
    assert "1 photos searched" not in all_words(viewer) and "1 photo searched" in all_words(viewer)


def test_where_what_a_number_sees_is_not_known_that_is_said(tiny):
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.two(x + self.one(x))

    torch.manual_seed(0)
    viewer = feature_viewer(Residual(), tiny)
    assert viewer.maps.drawn.named("sees")
    viewer.layer = 2
    assert not viewer.maps.drawn.named("sees")
    assert "isn’t known" in all_words(viewer) and not viewer.patches.drawn.named("whole")
    assert viewer.patches.drawn.named("patch")[0].pixels.shape == (28, 28)


# --- photographs ------------------------------------------------------------------------------------------------------


def a_photo(size=(90, 90)):
    """Dark on white."""
    photo = Image.new("RGB", size, "white")
    photo.paste((40, 40, 40), (size[0] // 3, size[1] // 3, 2 * size[0] // 3, 2 * size[1] // 3))
    return photo


def upload(viewer, name_and_content):
    """As the browser does, in ipywidgets 7 and 8."""
    upload_into(SimpleNamespace(children=[viewer.upload]), name_and_content)


def test_an_uploaded_photograph_is_looked_at(viewer):
    assert viewer._sources.layout.display == viewer.controls["invert"].layout.display == "none"
    upload(viewer, ("dress.png", content_of(a_photo())))
    assert viewer.source == "photo" and viewer.photo.size == (90, 90)
    assert viewer._sources.layout.display == viewer.controls["invert"].layout.display == ""
    assert "your photo" in viewer.maps.drawn.words()
    pixels = one(viewer.maps, "image").pixels
    assert viewer.invert and pixels.shape == (28, 28) and pixels[0, 0] == 0 and pixels[14, 14] == 215
    viewer.controls["invert"].value = False  # by hand
    pixels = one(viewer.maps, "image").pixels
    assert not viewer.invert and pixels[0, 0] == 255 and pixels[14, 14] == 40


def test_the_network_gets_the_photograph_normalised_as_the_data_are(viewer, nets):
    viewer.photo = a_photo()
    viewer.invert = False
    viewer.layer = 2
    shown = torch.from_numpy(one(viewer.maps, "image").pixels.copy()).float()[None, None]
    net = nets["LeNet"]
    maps = maps_in(net, net.features[4], (shown / 255 - MEAN) / STD)
    difference = one(viewer.maps, "map").pixels.astype(int) - stretched(maps[0])
    assert abs(difference).max() <= 1


def test_between_the_images_and_the_photograph_one_can_go_to_and_fro(viewer, tiny):
    viewer.photo = a_photo()
    viewer.controls["source"].value = "images"  # by hand
    assert np.array_equal(one(viewer.maps, "image").pixels, tiny.validation.pixels[0, 0])
    assert viewer.controls["invert"].layout.display == "none"
    viewer.source = "photo"
    assert "your photo" in viewer.maps.drawn.words()
    viewer.controls["image"].value = 2  # whoever moves this wants to see it
    assert viewer.source == "images"
    assert np.array_equal(one(viewer.maps, "image").pixels, tiny.validation.pixels[2, 0])
    viewer.source = "photo"
    viewer.image = 2  # where it is
    assert viewer.source == "images"
    viewer.photo = None
    assert viewer._sources.layout.display == "none" and viewer.photo is None
    with pytest.raises(ValueError, match=r"^source must be 'images' while there is no photo"):
        viewer.source = "photo"


def test_another_photograph_takes_the_place_of_the_first(viewer):
    upload(viewer, ("a.png", content_of(a_photo())))
    first = one(viewer.maps, "map").pixels.copy()
    upload(viewer, ("b.png", content_of(a_photo((60, 120)).rotate(30))))
    assert not np.array_equal(one(viewer.maps, "map").pixels, first)


def test_what_is_no_photograph_is_refused_in_words_and_the_button_works_on(viewer):
    upload(viewer, ("a.png", content_of(a_photo())))
    before = viewer.maps.value
    upload(viewer, ("cat.pdf", b"%PDF-1.7 no cat"))
    assert "A photograph must be an image file (JPEG, PNG, GIF, WebP …), but cat.pdf is a PDF" in viewer.message.value
    assert 'role="alert"' in viewer.message.value and viewer.maps.value == before, "the last picture stays"
    upload(viewer, ("cat.pdf", b"%PDF-1.7 no cat"))
    assert "cat.pdf" in viewer.message.value
    upload(viewer, ("black.png", content_of(Image.new("RGB", (50, 50)))))
    assert one(viewer.maps, "image").pixels.max() == 0 and not viewer.invert and not viewer.message.value
    with pytest.raises(PhotoError, match="begins with"):
        viewer.photo = b"nothing that is a picture"
    assert viewer.source == "photo" and viewer.photo.size == (50, 50)


def test_each_upload_gets_a_fresh_button_that_takes_images(viewer):
    for _ in range(2):
        button, hint = viewer.upload.children
        assert (button.accept, button.multiple, button.description) == ("image/*", False, "Upload a photo")
        assert "10 MB" in hint.value and not button.value
        upload(viewer, ("a.png", content_of(a_photo())))
        assert viewer.upload.children[0] is not button and button.comm is None, "the old one is closed"


def test_an_error_that_nobody_foresaw_at_an_upload_is_shown_and_raised(viewer, monkeypatch):
    monkeypatch.setattr("utils.widgets.features.has_light_background", lambda photo: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        upload(viewer, ("a.png", content_of(a_photo())))
    assert "fault in the explorer" in viewer.message.value


def test_a_network_in_colour_looks_at_an_example_and_has_nothing_to_search(colour):
    viewer = feature_viewer({"VGG": colour})
    assert "Grace Hopper" in viewer.maps.drawn.words() and one(viewer.maps, "image").pixels.shape == (32, 32, 3)
    assert "no images to search" in all_words(viewer) and not viewer.patches.drawn.named("patch")
    viewer.photo = a_photo()
    assert viewer.controls["invert"].layout.display == "none", "ImageNet's photographs are as they are"
    assert one(viewer.maps, "image").pixels[0, 0].tolist() == [255, 255, 255]


def test_photographs_are_searched_as_well(colour):
    photos = {"Hopper": example_photo(), "square": a_photo(), "noise": Image.effect_noise((80, 60), 90).convert("RGB")}
    viewer = feature_viewer({"VGG": colour}, photos=photos)
    assert "3 photos searched: the largest number (after ReLU) of each." in all_words(viewer)
    viewer.layer, viewer.channel, viewer.image = 2, 3, 2
    assert "noise" in viewer.maps.drawn.words()
    prepare = WEIGHTS.transforms(crop_size=32, resize_size=round(32 * 256 / 224))
    batch = torch.stack([prepare(photo) for photo in photos.values()])
    with torch.no_grad():
        largest = colour.eval().features[:5](batch)[:, 3].flatten(1).max(dim=1).values
    order = largest.argsort(descending=True).tolist()
    shown = [mark.words.split()[-1] for mark in viewer.patches.drawn.named("value")]
    assert shown == [list(photos)[i] for i in order if largest[i] > 0]
    viewer.controls["image"].value = 1
    assert "square" in viewer.maps.drawn.words()


def test_it_takes_a_photograph_for_what_classify_takes_it_for(colour):
    """The same preparation, and the same names, as in the lesson's cells before it."""

    class Large(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.net = nn.Conv2d(3, 3, 7, stride=7), colour

        def forward(self, x):
            return self.net(self.conv(x))

    torch.manual_seed(1)
    net = Large()
    (expected,) = classify(net, [example_photo()], WEIGHTS)
    viewer = feature_viewer({"VGG": net}, photos=[example_photo()])
    assert viewer._subject.says(0, viewer._subject.looked_at.one(0))[0] == (
        f"VGG: {expected.label} {100 * expected.probability:.1f} %"
    )


def test_grey_and_colour_networks_each_have_their_images(nets, colour, tiny):
    viewer = feature_viewer({"LeNet": nets["LeNet"], "VGG": colour}, tiny, photos=[a_photo(), example_photo()])
    viewer.image = 15
    viewer.network = "VGG"
    assert viewer.controls["image"].max == 1 and viewer.image == 1 and "photo 2" in viewer.maps.drawn.words()
    viewer.photo = a_photo()
    viewer.network = "LeNet"
    assert one(viewer.maps, "image").pixels.shape == (28, 28) and viewer.controls["image"].max == 19
    assert viewer.controls["invert"].layout.display == ""


# --- what is wrong ----------------------------------------------------------------------------------------------------

WRONG_CALLS = {
    "no network": (lambda data: feature_viewer("LeNet", data), r"^nets must be a dict, such as .*LeNet.*, got 'LeNet'"),
    "no networks": (lambda data: feature_viewer({}, data), r"^nets must be a dict, such as"),
    "an architecture": (lambda data: feature_viewer({"a": LENET}, data), r"^nets\['a'\] must be a Module"),
    "tensors": (lambda data: feature_viewer(MLP, data.train.pixels), r"^data must be Fashion-MNIST.*or a part of it"),
    "swapped": (lambda data: feature_viewer(data, MLP), r"^nets must be a dict"),
    "no data": (
        lambda data: feature_viewer({"a": build(LENET)}),
        r"^a can't be .*: it takes grey images, and there are",
    ),
    "two channels": (
        lambda data: feature_viewer({"a": build(LENET.change(in_channels=2))}, data),
        r"^a can't be looked into: it must take grey images \(1 channel\) or colour ones \(3\), got one for 2",
    ),
    "no colours": (
        lambda data: feature_viewer({"a": build(LENET.change(in_channels=3))}, data),
        r"takes images of 3 channels, and the data's have 1: give it photographs",
    ),
    "no numbers": (lambda data: feature_viewer({"a": build(LENET, device="meta")}, data), r"^a can't .* no numbers"),
    "lazy": (lambda data: feature_viewer({"a": nn.LazyConv2d(3, 3)}, data), r"^a can't be looked into: .* Lazy"),
    "does not fit": (
        lambda data: feature_viewer({"a": nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(3, 2, 3))}, data),
        r"(?s)^a can't be looked into: .*\b1\b.*given \(2, 26, 26\)",
    ),
    "no image": (
        lambda data: feature_viewer(MLP, Images(data.train.pixels[:0], data.train.labels[:0])),
        r"images must be at least one, got none",
    ),
    "no photos": (lambda data: feature_viewer(build(LENET), photos=[]), r"photos must be at least one, got none"),
    "no photo": (lambda data: feature_viewer(build(LENET), photos=[b"?"]), r"^a photograph must be an image file"),
    "classes": (lambda data: feature_viewer(MLP, data, classes="abc"), r"^classes must be a sequence"),
}


@pytest.mark.parametrize("name", WRONG_CALLS)
def test_what_can_not_be_shown_is_refused_in_words(name, tiny):
    call, words = WRONG_CALLS[name]
    with pytest.raises(ValueError, match=words):
        call(tiny)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("network", "AlexNet", r"^network must be one of 'LeNet', 'VGG', 'dense', got 'AlexNet'"),
        ("layer", 3, r"^layer must be one of 1, 2, got 3"),
        ("layer", 0, r"^layer must be one of 1, 2, got 0"),
        ("channel", 6, r"^channel must be a whole number from 0 to 5, got 6"),
        ("channel", 1.0, r"^channel must be a whole number"),
        ("image", 20, r"^image must be a whole number from 0 to 19, got 20"),
        ("image", -1, r"^image must be a whole number of at least 0"),
        ("is_after", 1, r"^is_after must be one of False, True, got 1"),
        ("invert", "yes", r"^invert must be True or False"),
        ("source", "upload", r"^source must be one of 'images', 'photo'"),
        ("photo", 7, r"^a photograph must be a path"),
    ],
)
def test_what_can_not_be_set_is_refused_with_what_could(viewer, field, value, words):
    before = viewer.maps.value
    with pytest.raises(ValueError, match=words):
        setattr(viewer, field, value)
    assert viewer.maps.value == before


def test_weights_that_were_spoilt_are_said_and_the_last_picture_stays(tiny):
    net = net_of(LENET)
    viewer = feature_viewer(net, tiny)
    before, good = viewer.maps.value, net.features[0].weight.detach().clone()
    with torch.no_grad():
        net.features[0].weight[0, 0, 0, 0] = torch.nan
    viewer.controls["channel"].value = 2
    assert "features.0.weight holds nan" in viewer.message.value and 'role="alert"' in viewer.message.value
    assert viewer.maps.value == before and viewer.maps.drawn.named("map")
    with torch.no_grad():
        net.features[0].weight.copy_(good)
    viewer.controls["channel"].value = 3
    assert viewer.message.value == "" and "filter 3 of conv 1: 5×5" in viewer.maps.drawn.words()


@pytest.mark.parametrize("number", [0.1, torch.nan])
def test_weights_that_were_changed_behind_torchs_back_are_noticed(tiny, number):
    net = net_of(LENET)
    viewer = feature_viewer(net, tiny)
    for parameter in net.parameters():
        parameter.data[:] = number  # torch doesn't count this
    viewer.controls["channel"].value = 1
    if number != number:
        assert "features.0.weight holds nan" in viewer.message.value
    else:
        maps = viewer.maps.drawn
        fresh = feature_viewer(net, tiny)
        fresh.channel = 1
        assert maps.svg() == fresh.maps.drawn.svg() and viewer.patches.drawn.svg() == fresh.patches.drawn.svg()


@pytest.mark.parametrize("control", ["network", "layer", "channel", "image", "is_after"])
def test_an_error_that_nobody_foresaw_is_shown_and_raised(viewer, monkeypatch, control):
    monkeypatch.setattr("utils.widgets.features.channel_view", lambda view: 1 / 0)
    value = {"network": "VGG", "is_after": False}.get(control, 2)
    with pytest.raises(ZeroDivisionError):
        viewer.controls[control].value = value
    assert "ZeroDivisionError" in viewer.message.value and "fault in the explorer" in viewer.message.value


@pytest.mark.parametrize("drawing", ["channel_view", "exciting_patches"])
def test_an_error_in_a_drawing_is_not_shown_as_yours(viewer, monkeypatch, drawing):
    def broken(*_):
        raise ValueError("no ink")

    monkeypatch.setattr(f"utils.widgets.features.{drawing}", broken)
    with pytest.raises(ValueError, match="no ink"):
        viewer.controls["channel"].value = 2
    assert "fault in the explorer" in viewer.message.value


# --- how it looks -----------------------------------------------------------------------------------------------------


def extent_of(mark):
    """Left, top, right, bottom of a mark, its stroke included."""
    match mark:
        case Box():
            half = mark.stroke_width / 2 if mark.stroke else 0
            return mark.x - half, mark.y - half, mark.x + mark.width + half, mark.y + mark.height + half
        case Pixels():
            return mark.x, mark.y, mark.x + mark.width, mark.y + mark.height
        case Stroke():
            (xs, ys), half = zip(*mark.points, strict=True), mark.width / 2
            return min(xs) - half, min(ys) - half, max(xs) + half, max(ys) + half
        case Words():
            width = text_width(mark.words, mark.size, bold=mark.bold)
            left = mark.x - {"start": 0, "middle": width / 2, "end": width}[mark.anchor]
            return left, mark.y - 0.8 * mark.size, left + width, mark.y + 0.25 * mark.size


def test_nothing_is_cut_off_or_written_over(nets, colour, tiny):
    names = {"a name that is far longer than what there is room for, and not one word of it needed": nets["LeNet"]}
    with_photos = feature_viewer({"colour": colour}, photos={"p" * 60: example_photo(), "q": a_photo()})
    for viewer in (feature_viewer({**nets, **names, "A": net_of(ALEXNET_SMALL)}, tiny), with_photos):
        for name in viewer._subjects:
            viewer.network = name
            for layer in range(1, len(viewer._subject.layers) + 1):
                viewer.layer, viewer.image, viewer.is_after = layer, 1, layer != 2
                for channel in {0, viewer.controls["channel"].max}:
                    viewer.channel = channel
                    check_sheet(viewer.maps.drawn)
                    check_sheet(viewer.patches.drawn)


def check_sheet(sheet):
    for mark in sheet.marks:
        left, top, right, bottom = extent_of(mark)
        assert left >= -0.5 and top >= -0.5 and right <= sheet.width + 0.5 and bottom <= sheet.height + 0.5, mark
    words = [(extent_of(mark), mark) for mark in sheet.marks if isinstance(mark, Words)]
    for i, ((left, top, right, bottom), mark) in enumerate(words):
        assert mark.size >= 11
        for (other_left, other_top, other_right, other_bottom), other in words[:i]:
            apart = right <= other_left or other_right <= left or bottom <= other_top or other_bottom <= top
            assert apart, (mark.words, other.words)
    assert sheet.width <= 720


@pytest.mark.parametrize("channels", [1, 3, 64, 512, 2048])
def test_any_number_of_maps_has_room(channels):
    maps = np.random.default_rng(0).random((channels, 7, 9))
    view = ChannelView(
        np.zeros((28, 28), np.uint8), "image", ("says",), "conv 1", "after ReLU", maps, channels - 1,
        np.ones((2, 3, 5)), 1.0, (1, 0), (1, 0), sees=(-3, 20, 14, 14),
    )  # fmt: skip
    sheet = channel_view(view)
    check_sheet(sheet)
    (gallery,) = sheet.named("all maps")
    (frame,) = sheet.named("chosen")
    assert frame.width in TILES and gallery.x <= frame.x < gallery.x + gallery.width


def test_the_picture_for_who_does_not_run_it(viewer, tmp_path):
    viewer.layer, viewer.channel = 2, 2
    figure = viewer.picture()
    sheet = viewer.sheet()
    assert sheet.width <= 720 and figure.title == "What one channel sees"
    for words in (
        "image 0:",
        "Filter 2 of conv 2, 5×5",
        "10×10, after ReLU",
        "16 maps",
        "220 training images searched",
    ):
        assert words in figure.alt
    figure.savefig(tmp_path / "picture.png")
    assert Image.open(tmp_path / "picture.png").size[0] > 500
    assert {mark.name for mark in sheet.marks} >= {
        "image",
        "map",
        "filter",
        "all maps",
        "chosen",
        "patch",
        "whole",
        "value",
    }


def test_orange_is_the_colour_of_what_is_looked_at(viewer):
    for drawing, name in ((viewer.maps, "chosen"), (viewer.maps, "sees"), (viewer.patches, "where")):
        assert all(mark.stroke == COLOURS["yours"] for mark in drawing.drawn.named(name))


def test_options_took_effect(viewer):
    """ipywidgets 7 ignores what it doesn't know."""
    assert (viewer.controls["image"].min, viewer.controls["image"].max) == (0, 19)
    assert (viewer.controls["channel"].min, viewer.controls["channel"].max) == (0, 5)
    assert viewer.controls["is_after"].style.button_width == "auto"
    assert viewer.controls["image"].description == "image" and viewer.controls["image"].layout.width == "330px"
    assert viewer.controls["layer"].value == 1 and viewer.controls["invert"].indent is False
    assert viewer.children[-1].layout.align_items == "flex-start"


# --- drawings, on their own -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "size", "cut", "at", "is_whole"),
    [
        ((2, 3, 5, 6), (5, 6), (2, 3, 5, 6), (0, 0), False),
        ((-2, 25, 5, 5), (5, 5), (0, 25, 3, 3), (2, 0), False),
        ((-30, -4, 44, 20), (28, 20), (0, 0, 14, 16), (0, 4), False),  # taller than the image
        ((20, 0, 40, 28), (28, 28), (20, 0, 8, 28), (20, 0), False),
        ((-9, -9, 60, 60), (28, 28), (0, 0, 28, 28), (0, 0), True),
        (None, (28, 28), (0, 0, 28, 28), (0, 0), True),
    ],
)
def test_a_patch_lies_in_its_tile_as_in_the_image(window, size, cut, at, is_whole):
    tile = placed(window, (28, 28, 3))
    assert (tile.size, tile.cut, tile.at, tile.is_whole) == (size, cut, at, is_whole)


def test_what_lies_over_the_edge_stays_free():
    image = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28)
    sheet = exciting_patches([Patch(image, (-2, 25, 5, 5), 1.5, "Bag")], "title", "note.")
    (tile,), (patch,) = sheet.named("tile"), sheet.named("patch")
    assert np.array_equal(patch.pixels, image[:3, 25:])
    assert (patch.x, patch.y) == (tile.x, tile.y + 0.4 * tile.height)
    assert patch.width == patch.height == pytest.approx(0.6 * tile.width)
    assert "Light grey: over the edge of the image." in " ".join(sheet.words()) and "1.50  Bag" in sheet.words()
    inside = exciting_patches([Patch(image, (2, 5, 5, 5), 1.5, "Bag")], "title", "note.")
    assert "Light grey" not in " ".join(inside.words())


def test_a_mosaic_has_the_maps_in_rows():
    maps = np.arange(5 * 2 * 3).reshape(5, 2, 3)
    picture = mosaic(maps, 3)
    assert picture.shape == (4, 9)
    for i in range(5):
        row, column = divmod(i, 3)
        assert np.array_equal(picture[2 * row : 2 * row + 2, 3 * column : 3 * column + 3], maps[i])
    assert (picture[2:, 6:] == 255).all()


@pytest.mark.parametrize(
    ("value", "words"), [(0, "0"), (1, "1.00"), (-0.5, "−0.500"), (2.504, "2.50"), (1234.5, "1,234"), (999.7, "1,000")]
)
def test_numbers_have_three_digits(value, words):
    assert number(value) == words


def test_a_sheet_is_small_enough_to_be_sent_at_every_move(viewer):
    viewer.layer = 2
    assert len(viewer.maps.value) + len(viewer.patches.value) < 100_000
    assert io.BytesIO(viewer.maps.value.encode()).read().count(b"<image") >= 4
