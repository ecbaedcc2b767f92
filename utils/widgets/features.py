"""The feature-map viewer: an image, a network, a layer, a channel. What its filter is, what it makes of the image, and
which patches of the data excite it most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ipywidgets import FileUpload, Layout
from PIL import Image
from torch import nn

from utils.data import FashionMNIST, Images
from utils.excitation import Excitations, input_channels, strongest_slices
from utils.faults import OutOfMemory
from utils.inputs import Pictures, has_light_background, photo_pictures
from utils.photos import HINT, PhotoError, Source, open_photo, uploaded
from utils.plots.features import SLICES, ChannelView, Patch, channel_view, exciting_patches
from utils.plots.sheet import Sheet, below
from utils.widgets.parts import (
    Drawing,
    Explorer,
    Setting,
    choice_buttons,
    column,
    guarded,
    heading,
    label,
    menu,
    named,
    row,
    slider,
    tick,
)
from utils.widgets.subjects import Subject, subjects_of

NOTHING_TO_SEARCH = "There are no images to search for them: give some, feature_viewer(net, photos=[…])."


def feature_viewer(
    nets: Mapping[str, nn.Module] | nn.Module,
    data: FashionMNIST | Images | None = None,
    *,
    photos: Mapping[str, Source] | Sequence[Source] | None = None,
    classes: Sequence[str] | None = None,
) -> FeatureViewer:
    """Filters, feature maps, and the patches that excite a channel most: `feature_viewer({"LeNet": net}, data)`.

    nets: one network, or some by name; trained ones, if it is to show what was learnt. data: for networks that take
    grey images. One looks at its validation images; up to 2,000 of the training images are searched. photos: for
    networks that take colour images, or if there are no data: whatever `open_photo` opens, a list or a dict by name;
    they are both looked at and searched. Without them such a network looks at an example, and nothing is searched.
    classes: their names, where they aren't Fashion-MNIST's or ImageNet's.

    Raises ValueError, with the network's name, for what is no network, or doesn't fit its images.
    """
    return FeatureViewer(nets, data, photos=photos, classes=classes)


class OfConvolutions(Setting):
    """What can be set for a network that has convolutions."""

    def __set__(self, viewer: FeatureViewer, value: Any) -> None:
        if not viewer.layer:
            raise ValueError(f"{self.name} can't be set: {viewer.network} has no convolutions")
        super().__set__(viewer, value)


class OfImages(Setting):
    """Which of the images: whoever sets it wants to see it, not the photograph."""

    def __set__(self, viewer: FeatureViewer, value: Any) -> None:
        super().__set__(viewer, value)
        viewer.source = "images"


class OfSource(Setting):
    """What to look at: a photograph only if there is one."""

    def __set__(self, viewer: FeatureViewer, value: Any) -> None:
        if value == "photo" and viewer.photo is None:
            raise ValueError("source must be 'images' while there is no photo: upload one, or set photo = \"cat.jpg\"")
        super().__set__(viewer, value)


class FeatureViewer(Explorer):
    """See `feature_viewer`. What can be set, by hand and from code:

    network    its name
    layer      its convolutions are numbered from 1; 0 if it has none
    is_after   are the numbers read after the activation, or before it?
    channel    from 0, as in `net.features[0].weight[channel]`
    image      from 0, as in `data.validation.pixels[image]`
    photo      a photograph of your own, whatever `open_photo` opens; None: back to the images
    source     what is looked at: "images" or "photo"
    invert     is the photograph's dark made light? For grey networks
    """

    network, is_after, invert = Setting(), Setting(), Setting()
    layer, channel, image, source = OfConvolutions(), OfConvolutions(), OfImages(), OfSource()

    def __init__(
        self,
        nets: Mapping[str, nn.Module] | nn.Module,
        data: FashionMNIST | Images | None = None,
        *,
        photos: Mapping[str, Source] | Sequence[Source] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self._subjects = subjects_of(nets, data, photos, classes)
        self._photo: Image.Image | None = None
        self._photo_number = 0  # tells one photograph from the next
        self._photo_pictures: dict[Any, Pictures] = {}
        names = list(self._subjects)
        self.controls = {
            "network": menu(names, names[0], "network"),
            "layer": menu([("", 0)], 0, "layer"),
            "is_after": choice_buttons([("before its activation", False), ("after it", True)], True),
            "channel": slider(0, 0, 0, "channel", width="330px"),
            "image": slider(0, 0, 0, "image", width="330px"),
            "source": choice_buttons([("the images", "images"), ("your photo", "photo")], "images"),
            "invert": tick(False, "invert: light garments on black, as in the data"),
        }
        self.upload = row(label(HINT, quiet=True))
        self._renew_upload()
        self.maps, self.patches = Drawing(), Drawing()
        self._lay_out()
        with self._settling():
            self._fit_controls()
        self._offer_what_applies()
        self._draw(*self._see())
        answers = {"network": self._on_network, "layer": self._on_layer, "image": self._on_image}
        for name, control in self.controls.items():
            control.observe(answers.get(name, self._on_change), "value")

    def _lay_out(self) -> None:
        controls = self.controls
        controls["network"].layout.display = "" if len(self._subjects) > 1 else "none"
        self._sources = named("look at", controls["source"])
        drawings = row(column(self.maps, width="608px"), column(self.patches, width="456px"))
        drawings.layout.align_items = "flex-start"
        self.show(
            heading("What one channel sees"),
            row(controls["network"], controls["layer"], controls["is_after"]),
            row(controls["channel"], controls["image"]),
            self.upload,
            row(self._sources, controls["invert"]),
            self.message,
            drawings,
        )

    @property
    def photo(self) -> Image.Image | None:
        return self._photo

    @photo.setter
    def photo(self, source: Source | None) -> None:
        self._take(None if source is None else open_photo(source))

    # --- what is pressed ----------------------------------------------------------------------------------------------

    @guarded
    def _on_network(self, _: Any) -> None:
        if not self._is_settling:
            with self._settling():
                self._fit_controls()
            self._update()

    @guarded
    def _on_layer(self, _: Any) -> None:
        if not self._is_settling:
            with self._settling():
                self._fit_channels()
            self._update()

    @guarded
    def _on_image(self, _: Any) -> None:
        if not self._is_settling:
            with self._settling():
                self.controls["source"].value = "images"
            self._update()

    @guarded
    def _on_change(self, _: Any) -> None:
        if not self._is_settling:
            self._update()

    @guarded
    def _on_upload(self, change: Mapping[str, Any]) -> None:
        self._renew_upload()
        for name, content in uploaded(change["new"]):
            try:
                photo = open_photo(content, name)
            except PhotoError as error:
                self.say(f"{error}", is_wrong=True)
            else:
                self._take(photo)

    def _renew_upload(self) -> None:
        """A new button: on the old one the same file, chosen again, would change nothing and so tell nobody.

        `photo_upload` does the same, with an Output for what a photograph leads to. Here that is the drawing; and the
        classic Notebook, with ipywidgets 7, shows no explorer that has an Output in it.
        """
        button = FileUpload(accept="image/*", multiple=False, description="Upload a photo", layout=Layout(width="auto"))
        button.observe(self._on_upload, "value")
        *old, hint = self.upload.children
        self.upload.children = (button, hint)
        for widget in old:
            widget.close()

    def _take(self, photo: Image.Image | None) -> None:
        self._photo = photo
        self._photo_number += 1
        self._photo_pictures.clear()
        with self._settling():
            self.controls["source"].value = "images" if photo is None else "photo"
            if photo is not None:
                self.controls["invert"].value = has_light_background(photo)
        self._update()

    # --- what follows -------------------------------------------------------------------------------------------------

    @property
    def _subject(self) -> Subject:
        return self._subjects[self.network]

    def _fit_controls(self) -> None:
        """The layers and images that the network has; each number stays, if there is one of it."""
        layers, number = self._subject.layers, self.controls["layer"].value or 1
        options = [(f"conv {i}: {layer.words}", i) for i, layer in enumerate(layers, start=1)]
        self.controls["layer"].options = options or [("no convolutions", 0)]
        self.controls["layer"].value = min(number, len(layers))
        _set_most(self.controls["image"], len(self._subject.looked_at) - 1)
        for control in (self.controls["layer"], self.controls["is_after"], self.controls["channel"]):
            control.disabled = not layers
        self._fit_channels()

    def _fit_channels(self) -> None:
        layer = self._subject.layer(self.layer) if self.layer else None
        _set_most(self.controls["channel"], layer.channels - 1 if layer else 0)
        self.controls["is_after"].disabled = layer is None or layer.activation is None

    def _update(self) -> None:
        """Draw anew; where the network can't be run, say so, and leave the last picture."""
        self._offer_what_applies()
        try:
            seen = self._see()
        except (ValueError, OutOfMemory) as error:  # spoilt weights, a network that was changed meanwhile
            self.say(str(error), is_wrong=True)
        else:
            self._draw(*seen)

    def _offer_what_applies(self) -> None:
        is_grey_photo = self.source == "photo" and self._subject.input_shape[0] == 1
        self._sources.layout.display = "" if self._photo is not None else "none"
        self.controls["invert"].layout.display = "" if is_grey_photo else "none"

    def _see(self) -> tuple[ChannelView, tuple[Excitations, Pictures] | None]:
        """What the network makes of the image, and what excites it. Raises ValueError or OutOfMemory if it can't."""
        return self._look(), self._search()

    def _draw(self, view: ChannelView, found: tuple[Excitations, Pictures] | None) -> None:
        self.say()
        self.maps.draw(channel_view(view))
        self.patches.draw(self._patches_of(found))

    def _look(self) -> ChannelView:
        subject, is_photo = self._subject, self.source == "photo"
        pictures, number = (self._pictures_of_photo(), 0) if is_photo else (subject.looked_at, self.image)
        key = (self._photo_number, self.invert) if is_photo else number
        image = pictures.one(number)
        title = "your photo" if is_photo else pictures.title(number)
        common = {"image": pictures.pixels(number), "title": title, "says": subject.says((is_photo, key), image)}
        if not self.layer:
            return ChannelView(**common)
        layer, channel = subject.layer(self.layer), self.channel
        maps = subject.maps(self.layer, self.is_after, (is_photo, key), image)
        conv = layer.conv(subject.net)
        kernel = conv.weight.detach().cpu().float()
        is_first = self.layer == 1 and kernel.shape[1] in (1, 3)
        slices = range(kernel.shape[1]) if is_first else strongest_slices(kernel[channel], SLICES)
        row, column = divmod(int(maps[channel].argmax()), maps.shape[2])
        return ChannelView(
            **common,
            layer=f"conv {self.layer}",
            reading=subject.reading(self.layer, self.is_after),
            maps=maps,
            channel=channel,
            kernel=kernel[channel].numpy(),
            limit=float(kernel.abs().max()),
            slices=tuple(slices),
            inputs=tuple(input_channels(conv, channel)[i] for i in slices),
            is_first=is_first,
            sees=layer.field.window(row, column) if layer.field else None,
        )

    def _pictures_of_photo(self) -> Pictures:
        shape = self._subject.input_shape
        key = shape, self.invert and shape[0] == 1
        if key not in self._photo_pictures:
            self._photo_pictures[key] = photo_pictures([self._photo], shape, invert=key[1])
        return self._photo_pictures[key]

    def _search(self) -> tuple[Excitations, Pictures] | None:
        if not self.layer:
            return None
        subject = self._subject
        if subject.searched is not None and not subject.is_searched(self.layer, self.is_after):
            self.say(f"Searching for what excites conv {self.layer} …")
        return subject.found(self.layer, self.is_after)

    def _patches_of(self, found: tuple[Excitations, Pictures] | None) -> Sheet:
        title = f"What excites channel {self.channel} of conv {self.layer} most" if self.layer else "What excites it"
        if found is None:
            return exciting_patches([], title, NOTHING_TO_SEARCH if self.layer else "It has no channels to excite.")
        searched, pictures = found
        peaks = searched.top(self.channel)
        field = self._subject.layer(self.layer).field
        patches = [
            Patch(
                image=pictures.pixels(peak.image),
                window=field.window(peak.row, peak.column) if field else None,
                value=peak.value,
                name=pictures.names[peak.image],
            )
            for peak in peaks
        ]
        return exciting_patches(patches, title, self._note(searched, pictures, len(peaks), field is not None))

    def _note(self, searched: Excitations, pictures: Pictures, number: int, is_known: bool) -> str:
        """How many images were searched, and what the numbers are."""
        if not number:
            lowest = float(searched.lowest[self.channel])
            return f"Nothing in {pictures.counted}: this channel is {lowest:g} everywhere."
        reading = self._subject.reading(self.layer, self.is_after)
        which = f", and of those the {'' if number == 1 else f'{number} '}largest" if number < len(searched) else ""
        words = f"{pictures.counted} searched: the largest number ({reading}) of each{which}."
        return words if is_known else f"{words} How much of an image such a number sees isn’t known: here is all of it."

    # --- for who reads and doesn't run --------------------------------------------------------------------------------

    def sheet(self) -> Sheet:
        return below([drawing.drawn for drawing in (self.maps, self.patches)], title="What one channel sees")


def _set_most(control: Any, most: int) -> None:
    """The slider's upper end; its value stays, or becomes the last that there is."""
    control.value = min(control.value, most)
    control.max = most
