"""Write the sample of Fashion-MNIST that the project ships: 600 training and 100 test images of each class.

    python tools/make_sample.py        # writes the files and prints the table SAMPLE_FILES of utils/data.py

The choice depends on the seed alone. The .gz files hold no name and no date: the same zlib gives the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import random
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from utils.data import SAMPLE_FOLDER, FashionMNIST, Images, _rank_in_class, load_fashion_mnist
from utils.words import speak_anywhere

SEED = 2017
TRAIN_PER_CLASS, TEST_PER_CLASS = 600, 100


def make_sample(whole: FashionMNIST) -> dict[str, bytes]:
    """The sample's four IDX files, by name."""
    draw = random.Random(SEED).random
    train, test = choose(whole.all_train, TRAIN_PER_CLASS, draw), choose(whole.test, TEST_PER_CLASS, draw)
    return {
        "train-images-idx3-ubyte": idx(train.pixels.squeeze(1)),
        "train-labels-idx1-ubyte": idx(train.labels.to(torch.uint8)),
        "t10k-images-idx3-ubyte": idx(test.pixels.squeeze(1)),
        "t10k-labels-idx1-ubyte": idx(test.labels.to(torch.uint8)),
    }


def choose(images: Images, per_class: int, draw: Callable[[], float]) -> Images:
    """The images of each class that draw the lowest lots, in the order in which they lay."""
    # Python promises the same random() for a seed in all its versions; of sample() and torch.randperm nobody does.
    lots = torch.tensor([draw() for _ in range(len(images))], dtype=torch.float64)
    order = lots.argsort()
    chosen = order[_rank_in_class(images.labels[order]) < per_class].sort().values
    return Images(images.pixels[chosen], images.labels[chosen])


def idx(values: torch.Tensor) -> bytes:
    """A uint8 array in LeCun's IDX format: 0, 0, type 8, number of dimensions; the dimensions; the values."""
    return struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.numpy().tobytes()


def main() -> None:
    speak_anywhere()
    whole = load_fashion_mnist()
    if whole.is_sample:
        sys.exit("A sample is made from the whole of Fashion-MNIST, and only the sample was found: see above.")
    SAMPLE_FOLDER.mkdir(parents=True, exist_ok=True)
    print("SAMPLE_FILES = {  # written, and printed, by tools/make_sample.py")
    for name, content in make_sample(whole).items():
        (SAMPLE_FOLDER / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
        print(f'    "{name}": ({len(content):_}, "{hashlib.sha256(content).hexdigest()}"),')
    print("}")


if __name__ == "__main__":
    main()
