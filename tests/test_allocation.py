"""utils/allocation.py: what a batch has freed is there for the next one, unless you have said otherwise."""

import os
import platform
import subprocess
import sys

import pytest

from utils import allocation
from utils.allocation import keep_freed_memory

pytestmark = pytest.mark.system

OURS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
# Three outputs of 40 MB, freed, twenty times over: how many pages had to be asked for, after the first rounds, in which
# each finds its place? (Above 32 MB glibc gives back each one, whatever lies beside it; below, it depends on that.)
ROUNDS = """
import resource
import utils
import torch

def layers():
    outputs = [torch.ones(10_000_000) for _ in range(3)]

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(10):
    layers()
before = faults()
for _ in range(20):
    layers()
print(faults() - before)
"""


def pages_asked_for(**variables):
    clean = {name: value for name, value in os.environ.items() if name not in OURS}
    run = subprocess.run(
        [sys.executable, "-c", ROUNDS], env=clean | variables, capture_output=True, text=True, check=True
    )
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no glibc here: its malloc is what is told")
def test_freed_memory_is_kept_for_the_next_batch():
    kept, given_back = pages_asked_for(), pages_asked_for(MALLOC_TRIM_THRESHOLD_="131072")
    assert given_back > 20 * 3 * 600, "each round asks for all of it anew, also where a page has 64 KiB"
    assert kept < given_back / 10


@pytest.mark.parametrize("name", OURS)
def test_what_you_have_set_is_left(name, monkeypatch):
    monkeypatch.setenv(name, "131072")
    monkeypatch.setattr(allocation.ctypes, "CDLL", lambda name: pytest.fail("glibc was asked"))
    assert keep_freed_memory() is False


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_are_left_alone(platform, monkeypatch):
    monkeypatch.setattr(allocation.sys, "platform", platform)
    monkeypatch.setattr(allocation.ctypes, "CDLL", lambda name: pytest.fail("glibc was asked"))
    assert keep_freed_memory() is False


def test_a_c_library_without_the_setting_is_left_alone(monkeypatch):
    for name in OURS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(allocation.sys, "platform", "linux")
    monkeypatch.setattr(allocation.ctypes, "CDLL", lambda name: object())  # musl's
    assert keep_freed_memory() is False
