"""Bigger & Deeper: what every notebook imports. Architecture → network → profile, fit, throughput → result → plot.

`import utils` costs nothing: each module (`utils.models`, `utils.plots`, …) is loaded when it is first used.
"""

import importlib
from types import ModuleType

__version__ = "0.1.0"
_MODULES = (
    "architectures",
    "blocks",
    "checks",
    "data",
    "device",
    "experiments",
    "models",
    "plots",
    "results",
    "throughput",
    "training",
)
__all__ = [*_MODULES]


def __getattr__(name: str) -> ModuleType:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
