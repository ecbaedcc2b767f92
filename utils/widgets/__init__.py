"""Explorers: turn a knob, and the network answers. Each is one call, `vgg_explorer()`, as a cell's last line.

They know nothing of their own: they edit plain data, an `Architecture` above all, and show what `profile`, `fit` and
`throughput` say of it. Each can be set from code as by hand, and `explorer.picture()` is what it shows, as a figure.
"""

import importlib
from typing import Any

# In which module each stands: one loads what it needs, when it is asked for.
_WHERE = {
    "VggExplorer": "vgg",
    "vgg_explorer": "vgg",
    "KernelLaboratory": "kernels",
    "kernel_laboratory": "kernels",
    "ShapeCalculator": "shapes",
    "shape_calculator": "shapes",
    "FeatureViewer": "features",
    "feature_viewer": "features",
    "TrainingClinic": "clinic",
    "training_clinic": "clinic",
    "RooflineExplorer": "roofline",
    "roofline_explorer": "roofline",
}
__all__ = [*_WHERE]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
