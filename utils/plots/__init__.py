"""The pictures of this course. Each function gives a figure that shows itself as a cell's last value.

`figure.alt` says in words what a figure shows; `save` writes it as SVG and PNG. What is drawn comes in as
tensors, arrays, or the plain data of `utils.results` and `utils.training`.
"""

from utils.plots.arms import arms
from utils.plots.bars import layer_bars, layer_costs, stacked_bars
from utils.plots.curves import curve_of, learning_curves
from utils.plots.drawing import architecture_blocks
from utils.plots.fields import receptive_fields
from utils.plots.files import save
from utils.plots.lines import lines
from utils.plots.photos import predictions
from utils.plots.pictures import confusion, feature_maps, filters, image_grid
from utils.plots.published import published
from utils.plots.roofline import roofline, time_and_flops
from utils.plots.style import COLOURS, LessonFigure
from utils.plots.tradeoff import throughput_accuracy
from utils.plots.vitals import vital_signs

__all__ = [
    "COLOURS",
    "LessonFigure",
    "architecture_blocks",
    "arms",
    "confusion",
    "curve_of",
    "feature_maps",
    "filters",
    "image_grid",
    "layer_bars",
    "layer_costs",
    "learning_curves",
    "lines",
    "predictions",
    "published",
    "receptive_fields",
    "roofline",
    "save",
    "stacked_bars",
    "throughput_accuracy",
    "time_and_flops",
    "vital_signs",
]
