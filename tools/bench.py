"""How fast it is, beside the goals: `make bench`. It prints figures; it asserts nothing.

Run it while the machine is idle: it says nothing of the project if something else computes at the same time.
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from utils.architectures import VGG_SMALL
from utils.catalog import CURVE
from utils.data import load_fashion_mnist
from utils.device import describe, pick_device
from utils.models import build
from utils.training import evaluate, fit

GOAL_ACCURACY, GOAL_SECONDS = 0.91, 60  # a small VGG, on two cores
EPOCHS = 4


def small_vgg() -> str:
    """Train a small VGG on all 60,000 images with every core: accuracy on the test images, seconds for all of it."""
    data = load_fashion_mnist(device=pick_device())
    arm = next(arm for arm in CURVE.arms if arm.architecture == VGG_SMALL["VGG (1,1)"])
    recipe = replace(arm.recipe, epochs=EPOCHS)
    start = time.perf_counter()
    torch.manual_seed(0)
    net = build(arm.architecture)
    fit(net, data.all_train, recipe)
    accuracy = evaluate(net, data.test).accuracy
    seconds = time.perf_counter() - start
    met = "met" if accuracy >= GOAL_ACCURACY and seconds <= GOAL_SECONDS else "NOT met"
    return (
        f"{arm.architecture.label}, {recipe.epochs} epochs: {accuracy:.2%} test accuracy in {seconds:.1f} s; "
        f"goal: {GOAL_ACCURACY:.0%} in {GOAL_SECONDS} s on two cores; {met}"
    )


if __name__ == "__main__":
    print(describe())
    print(small_vgg())
