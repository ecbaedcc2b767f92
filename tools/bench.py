"""How fast it is, beside the goals: `make bench`. It prints figures and asserts nothing.

What is compared is measured in turn, in one run: what else the machine does slows both alike, and the ratio stands. Run
it while the machine is idle all the same. --promote keeps the tables in results/reference/<device>/bench.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

# ruff: noqa: I001  utils comes before torch: it sets how torch's threads wait
from make_sample import idx
from utils import book
from utils.architectures import LENET, LENET_BOOK, VGG, VGG_SMALL, Architecture
from utils.catalog import CURVE
from utils.data import FashionMNIST, load_fashion_mnist
from utils.device import describe, device_name, dtype_name, pick_device, versions
from utils.experiments import reference_folder
from utils.models import build
from utils.profiling import profile
from utils.training import Recipe, evaluate, fit
from utils.words import speak_anywhere

import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision import transforms

START = VGG_SMALL["VGG-11 ⅛ + BN"]  # with which the explorer begins
ROUNDS = 5
BATCH = 256
HEADER = ("what", "figure", "goal", "met")


@dataclass(frozen=True)
class Row:
    """One line of the table. goal: in words; "" where there is none, and then `met` is None."""

    what: str
    figure: str
    goal: str = ""
    met: bool | None = None

    @property
    def cells(self) -> tuple[str, str, str, str]:
        return self.what, self.figure, self.goal, {True: "yes", False: "NO", None: ""}[self.met]


def as_table(rows: list[Row]) -> str:
    """The rows as a Markdown table, its columns as wide as they need to be."""
    lines = [HEADER, *(row.cells for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in padded)


# --- training: ours, the book's, and as one usually does it -----------------------------------------------------------

Epoch = Callable[[], int]  # trains for an epoch, looks at the validation images, and says how many it was trained on


def ours(architecture: Architecture, data: FashionMNIST, dtype: str = "auto") -> Epoch:
    """`fit`, on images that lie on the device: an epoch of the 60,000, then the accuracy on the 10,000."""
    net, recipe = build(architecture), Recipe(epochs=1, batch_size=BATCH, lr=0.1, schedule="constant", dtype=dtype)
    return lambda: fit(net, data.all_train, recipe, validation=data.test, progress=False).images


def usual(architecture: Architecture, folder: str) -> Epoch:
    """Dataset, ToTensor, DataLoader, and a loop: as most tutorials have it."""
    to_tensor = transforms.ToTensor()
    train, test = (
        torchvision.datasets.FashionMNIST(folder, train=is_train, transform=to_tensor) for is_train in (True, False)
    )
    net = nn.Sequential(nn.ZeroPad2d((architecture.image_size - 28) // 2), build(architecture))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    def epoch() -> int:
        net.train()
        for images, labels in torch.utils.data.DataLoader(train, BATCH, shuffle=True):
            loss = F.cross_entropy(net(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            for images, labels in torch.utils.data.DataLoader(test, BATCH):
                (net(images).argmax(dim=1) == labels).float().mean().item()
        return len(train)

    return epoch


def the_books() -> Epoch:
    """`d2l.Trainer` on the book's own LeNet and its own data, four workers and all, drawing as in a notebook."""
    d2l = book.import_d2l()
    warnings.filterwarnings("ignore", "This DataLoader will create")  # four workers on fewer cores: that is the book's
    data = d2l.FashionMNIST(batch_size=BATCH)
    images, _ = next(iter(torch.utils.data.DataLoader(data.val, 2)))
    model = d2l.LeNet(lr=0.1)
    model.apply_init([images], d2l.init_cnn)

    def epoch() -> int:
        d2l.Trainer(max_epochs=1).fit(model, data)
        return len(data.train)

    return epoch


@contextlib.contextmanager
def as_in_a_notebook() -> Iterator[None]:
    """What is displayed is rendered, as the inline backend does it, and sent to nobody."""
    from IPython.core.displaypub import CapturingDisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell
    from matplotlib_inline import backend_inline, config

    class ToNobody(CapturingDisplayPublisher):
        def clear_output(self, wait: bool = False) -> None:
            self.outputs.clear()  # and no codes that clear a terminal's line

    shell = InteractiveShell.instance()
    shell.display_pub = ToNobody()
    config.InlineBackend.instance(parent=shell).shell = shell
    backend_inline.set_matplotlib_formats("svg")
    try:
        yield
    finally:
        InteractiveShell.clear_instance()


@contextlib.contextmanager
def where_the_book_looks(data: FashionMNIST) -> Iterator[str]:
    """A working folder beside which the images lie in ../data, as d2l and torchvision have it. Gives that ../data."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as scratch:
        raw, here = Path(scratch, "data", "FashionMNIST", "raw"), Path(scratch, "here")
        raw.mkdir(parents=True)
        here.mkdir()
        for name, images in (("train", data.all_train), ("t10k", data.test)):
            (raw / f"{name}-images-idx3-ubyte").write_bytes(idx(images.pixels.squeeze(1)))
            (raw / f"{name}-labels-idx1-ubyte").write_bytes(idx(images.labels.to(torch.uint8)))
        os.chdir(here)
        try:
            yield str(here.parent / "data")
        finally:
            os.chdir(before)


def images_per_s(epoch: Epoch) -> float:
    """Time one epoch."""
    start = time.perf_counter()
    images = epoch()
    return images / (time.perf_counter() - start)


def compare(one: Epoch, other: Epoch, rounds: int = ROUNDS) -> tuple[list[float], list[float]]:
    """Images a second of both, measured in turn; a first round, which allocates and imports, doesn't count."""
    measured = [(images_per_s(one), images_per_s(other)) for _ in range(rounds + 1)]
    first, second = zip(*measured[1:], strict=True)
    return list(first), list(second)


def ratio_row(what: str, one: list[float], other: list[float], goal: float | None) -> Row:
    """How many times as fast the first is: the median of the rounds' ratios, the lowest and the highest."""
    ratios = [a / b for a, b in zip(one, other, strict=True)]
    median = statistics.median(ratios)
    figure = (
        f"{statistics.median(one):,.0f} : {statistics.median(other):,.0f} images/s, {median:.1f} × "
        f"({min(ratios):.1f} to {max(ratios):.1f}, {len(ratios)} rounds)"
    )
    return Row(what, figure) if goal is None else Row(what, figure, f"≥ {goal:g} ×", median >= goal)


def training_rows(data: FashionMNIST) -> Iterator[Row]:
    """One row each: an epoch of all training images and a look at the test images, ours against another's.

    The others compute in float32, as who runs them does; ours in what is fastest here, and once in float32 too.
    """
    vgg = VGG_SMALL["VGG (1,1)"]
    with where_the_book_looks(data) as folder, as_in_a_notebook():
        for architecture, dtype, other, name, goal in (
            (LENET_BOOK, "auto", the_books(), "d2l.Trainer", 3),
            (LENET_BOOK, "float32", the_books(), "d2l.Trainer", None),
            (LENET_BOOK, "auto", usual(LENET_BOOK, folder), "Dataset + DataLoader", None),
            (vgg, "auto", usual(vgg, folder), "Dataset + DataLoader", None),
        ):
            what = f"training {architecture.label}: ours in {dtype_name(dtype, 'cpu')} : {name}"
            yield ratio_row(what, *compare(ours(architecture, data, dtype), other), goal)


def small_vgg(data: FashionMNIST, epochs: int = 4) -> Row:
    """Train a small VGG on all 60,000 images with every core: accuracy on the test images, seconds for all of it."""
    arm = next(arm for arm in CURVE.arms if arm.architecture == VGG_SMALL["VGG (1,1)"])
    start = time.perf_counter()
    torch.manual_seed(0)
    net = build(arm.architecture)
    fit(net, data.all_train, replace(arm.recipe, epochs=epochs), progress=False)
    accuracy = evaluate(net, data.test).accuracy
    seconds = time.perf_counter() - start
    return Row(
        f"{arm.architecture.label}, {epochs} epochs of 60,000, to test accuracy",
        f"{accuracy:.2%} in {seconds:.1f} s",
        "91% in 60 s on two cores",
        accuracy >= 0.91 and seconds <= 60,
    )


# --- what a student waits for -----------------------------------------------------------------------------------------


def profile_row(repeats: int = 20) -> Row:
    """The table of VGG-19, network and all, once torch has imported what it needs for it."""
    net = build(VGG["E"], device="meta")
    profile(net)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        profile(net)
        seconds.append(time.perf_counter() - start)
    median = 1000 * statistics.median(seconds)
    figure = f"{median:.0f} ms ({1000 * min(seconds):.0f} to {1000 * max(seconds):.0f}, {repeats} times)"
    return Row("the profile of VGG-19", figure, "≤ 100 ms", median <= 100)


def slider_rows(data: FashionMNIST, turns: int = 40) -> Iterator[Row]:
    """From the turn of a slider in the explorer to the new table, and to the last new drawing: the kernel's part of it.

    The slider is that of the first block's convolutions; the network goes to and fro between two.
    """
    from utils.kept import Kept
    from utils.widgets.vgg import VggExplorer

    with tempfile.TemporaryDirectory() as nowhere:
        explorer = VggExplorer(data, kept=Kept(nowhere))
        when: dict[str, float] = {}
        for name in ("table", "drawing", "field"):
            widget = getattr(explorer, name)
            widget.observe(lambda _, name=name: when.update({name: time.perf_counter()}), names="value")
        for label, architecture in (("LeNet", LENET), ("VGG-11", VGG["A"]), ("VGG-19", VGG["E"])):
            explorer.architecture = architecture
            slider = explorer.editor.rows[0].num_convs
            waits: dict[str, list[float]] = {"the new table": [], "all new drawings": []}
            for turn in range(turns + 2):
                when.clear()
                start = time.perf_counter()
                slider.value = 3 - slider.value if slider.value in (1, 2) else 1
                if turn >= 2:  # the first two draw what nobody has drawn before
                    waits["the new table"].append(when["table"] - start)
                    waits["all new drawings"].append(max(when["drawing"], when.get("field", 0.0)) - start)
            for what, goal in (("the new table", 0.1), ("all new drawings", 0.2)):
                yield wait_row(f"explorer, {label}: from a slider to {what}", waits[what], goal)


def stop_row(data: FashionMNIST, architecture: Architecture = START, times: int = 5) -> Row:
    """From ■ to the last step of a training in the explorer, ■ pressed at different places of its slices of work."""
    from utils.kept import Kept
    from utils.widgets.vgg import VggExplorer

    waits = []

    async def train_and_stop(explorer: VggExplorer, number: int) -> None:
        task, trainer = explorer.train(60), explorer.trainer
        while trainer.trial.phase != "training" or len(trainer.trial.losses) < 3 + number:
            await asyncio.sleep(0)
            if task.done():
                raise RuntimeError(f"{architecture.label} wasn't trained: {trainer.message.value}")
        await asyncio.sleep(0.03 * number)
        start = time.perf_counter()
        explorer.stop()
        while trainer.trial.phase == "training":
            await asyncio.sleep(0)
        waits.append(time.perf_counter() - start)
        await task

    with tempfile.TemporaryDirectory() as nowhere:
        explorer = VggExplorer(data, architecture, kept=Kept(nowhere))
        for number in range(times):
            asyncio.run(train_and_stop(explorer, number))
    return wait_row(f"explorer, {architecture.label}: from ■ to the last step", waits, 1.0)


def wait_row(what: str, seconds: list[float], goal: float) -> Row:
    """The median and the 95th percentile of what a student waits, in ms; the goal is for the latter."""
    median, p95 = (1000 * value for value in (statistics.median(seconds), sorted(seconds)[int(0.95 * len(seconds))]))
    figure = f"{median:.0f} ms, p95 {p95:.0f} ms ({len(seconds)} times)"
    return Row(what, figure, f"≤ {1000 * goal:,.0f} ms", p95 <= 1000 * goal)


IMPORTED = {
    "import utils": "import utils",
    "what lesson 05 imports": "from utils import plots; from utils.data import load_fashion_mnist; "
    "from utils.experiments import sweep",
}


def import_rows(rounds: int = 5) -> Iterator[Row]:
    """Seconds that imports take once torch is there, each time in a process of its own."""

    def seconds(code: str) -> tuple[float, float]:
        """Of torch, then of what is imported after it."""
        timed = "import time; t = time.perf_counter(); import torch; u = time.perf_counter(); "
        timed += f"{code}; print(u - t, time.perf_counter() - u)"
        output = subprocess.run([sys.executable, "-c", timed], check=True, capture_output=True, encoding="utf-8").stdout
        alone, more = map(float, output.split())
        return alone, more

    measured = [[seconds(code) for code in IMPORTED.values()] for _ in range(rounds)]
    for what, pairs, goal in zip(IMPORTED, zip(*measured, strict=True), (0.3, None), strict=True):
        alone, more = zip(*pairs, strict=True)
        median = statistics.median(more)
        spread = f"({min(more):.3f} to {max(more):.3f}, {rounds} times)"
        figure = f"{median:.3f} s {spread} after import torch's {statistics.median(alone):.2f} s"
        yield Row(what, figure) if goal is None else Row(what, figure, f"≤ {goal} s", median <= goal)


def every_row(data: FashionMNIST, on_cpu: FashionMNIST) -> Iterator[Row]:
    """All that is measured, one after the other. The book's trainer and the usual loop compute on the CPU; so ours."""
    yield from import_rows()
    yield profile_row()
    yield from slider_rows(data)
    yield stop_row(data)
    yield from training_rows(on_cpu)
    yield small_vgg(data)


def stamp(data: FashionMNIST) -> str:
    """Under what it was measured."""
    software = ", ".join(f"{name} {version}" for name, version in versions().items())
    return (
        f"Measured on {device_name(data.train.device)}; {software}; {time.strftime('%Y-%m-%d')}; "
        f"{torch.get_num_threads()} threads; data {data.digest[:12]}. Rows with a ratio: batches of {BATCH}; the "
        f"others' in float32."
    )


def main() -> int:
    speak_anywhere()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--promote", action="store_true", help="keep the tables in results/reference/<device>/bench.md")
    options = parser.parse_args()
    device = pick_device()
    print(describe(device))
    data, on_cpu = load_fashion_mnist(device=device), load_fashion_mnist(report=lambda line: None)
    if data.is_sample:
        print("The figures are of all images, and these are the sample: nothing is measured.", file=sys.stderr)
        return 1
    rows = []
    for row in every_row(data, on_cpu):
        print(f"  {row.what}: {row.figure}", flush=True)  # it takes minutes: what there is, is shown
        rows.append(row)
    print(f"\n{as_table(rows)}")
    if options.promote:
        file = reference_folder(device) / "bench.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# make bench\n\n{stamp(data)}\n\n{as_table(rows)}\n", encoding="utf-8", newline="\n")
        print(f"written: {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
