"""The pictures of this course. Each function gives a figure that shows itself as a cell's last value.

`figure.alt` says in words what a figure shows; `save` writes it as SVG and PNG. What is drawn comes in as
tensors, arrays, or the plain data of `utils.results` and `utils.training`.
"""

from utils.plots.bars import layer_bars
from utils.plots.curves import curve_of, learning_curves
from utils.plots.drawing import architecture_blocks
from utils.plots.files import save
from utils.plots.pictures import confusion, feature_maps, filters, image_grid
from utils.plots.style import COLOURS, LessonFigure
from utils.plots.tradeoff import throughput_accuracy

__all__ = [
    "COLOURS",
    "LessonFigure",
    "architecture_blocks",
    "confusion",
    "curve_of",
    "feature_maps",
    "filters",
    "image_grid",
    "layer_bars",
    "learning_curves",
    "save",
    "throughput_accuracy",
]
