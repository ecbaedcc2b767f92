"""Bigger & Deeper: what every notebook imports. Architecture → network → fit, throughput → result → plot.

`import utils` costs nothing: each module (`utils.models`, `utils.plots`, …) is loaded when it is first used.
"""

import importlib
import os
from types import ModuleType

from utils.allocation import keep_freed_memory
from utils.cores import cpu_cores, cpu_quota

# Torch's threads wait for each other after every layer. By default they wait by spinning, for long; if anything else
# wants a core then (a browser, a video call), training becomes many times slower. So they spin for a moment, then
# sleep. Torch reads this when it is loaded: import `utils` first.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "3000")
# What Apple's GPU lacks, torch then does on the CPU, with a warning that names it, in place of an error. It reads this
# when it is loaded, too.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
# Torch starts a thread for each core that it sees, and it doesn't see a container's quota (Binder's has one).
if cpu_quota() is not None:
    os.environ.setdefault("OMP_NUM_THREADS", str(cpu_cores()))
keep_freed_memory()

__version__ = "0.1.0"
_MODULES = (
    "allocation",
    "architectures",
    "blocks",
    "book",
    "catalog",
    "checks",
    "colab",
    "comparing",
    "cores",
    "data",
    "device",
    "editing",
    "excitation",
    "experiments",
    "faults",
    "inputs",
    "kept",
    "models",
    "photos",
    "plots",
    "profiling",
    "progress",
    "published",
    "randomness",
    "receptive",
    "results",
    "roofline",
    "stacks",
    "throughput",
    "training",
    "trials",
    "vitals",
    "widgets",
    "words",
    "workers",
)
__all__ = [*_MODULES]


def __getattr__(name: str) -> ModuleType:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
