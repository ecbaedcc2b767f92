"""Photographs the explorers at work, in JupyterLab, for the README and the lessons: `make pictures`.

Writes notebooks/pictures/explorer_1280.png and explorer_900.png: the VGG explorer in windows of 1280 and 900 pixels,
after a network was trained in it for half a minute; and one of each other explorer in a window of 1280. It takes a
Chromium (tools/install_chromium.py), all of the images, and a machine that is idle: the curve is a real one.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))  # for browser.py, which drives the tests too
from browser import JupyterLab, LabNotebook, chromium, install_chromium, write_notebook  # noqa: E402
from PIL import Image  # noqa: E402
from playwright.sync_api import expect  # noqa: E402

from utils.plots.style import compact  # noqa: E402
from utils.words import speak_anywhere  # noqa: E402

FOLDER = ROOT / "notebooks" / "pictures"
SET_UP = "from utils.data import load_fashion_mnist\ndata = load_fashion_mnist()"
CELLS = {
    "explorer": "from utils.widgets import vgg_explorer\nvgg_explorer(data)",
    "laboratory": "from utils.widgets import kernel_laboratory\nkernel_laboratory(data)",
    "viewer": """from utils.architectures import LENET
from utils.models import build
from utils.training import Recipe, fit
from utils.widgets import feature_viewer
fit(net := build(LENET), data.train, Recipe(epochs=1, lr=0.1), progress=False)
feature_viewer({"LeNet": net}, data)""",
    "calculator": "from utils.widgets import shape_calculator\nshape_calculator()",
    "clinic": "from utils.widgets import training_clinic\ntraining_clinic(data)",
    "roofline": "from utils.widgets import roofline_explorer\nroofline_explorer()",
}
WIDTHS = {"explorer": (1280, 900)}
SECONDS = 300  # that a training may take, all in all


def main() -> int:
    speak_anywhere()
    if not (path := install_chromium.find_chromium()):
        print(f"No Chromium is here. {install_chromium.TO_DO}", file=sys.stderr)
        return 1
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as home:
        with chromium(path) as browser, JupyterLab(Path(folder), Path(home)) as server:
            for name, code in CELLS.items():
                write_notebook(Path(folder, f"{name}.ipynb"), SET_UP, code)
                with server.open(browser, f"{name}.ipynb") as notebook:
                    photograph(notebook, name, code)
    return 0


def photograph(notebook: LabNotebook, name: str, code: str) -> None:
    """Run its cells, use it as a student would, and keep what one sees."""
    notebook.run(SET_UP)
    notebook.run(code)
    notebook.show_file_browser(False)
    if name == "explorer":
        train(notebook)
    for width in WIDTHS.get(name, (1280,)):
        notebook.resize(width)
        file = FOLDER / f"{name}_{width}.png"
        notebook.screenshot(file)
        file.write_bytes(compact(file.read_bytes()))
        with Image.open(file) as picture:
            print(f"written: {file.relative_to(ROOT)}, {picture.width}×{picture.height}", flush=True)


def train(notebook: LabNotebook) -> None:
    """Train the explorer's network for 30 s, as a student does, and wait until it stands in the plot."""
    explorer = notebook.explorer
    explorer.get_by_role("button", name="30 s").click()
    explorer.get_by_role("button", name="Train").click()
    expect(explorer.get_by_text("images/s in inference.")).to_be_visible(timeout=1000 * SECONDS)
    notebook.wait_until_idle()


if __name__ == "__main__":
    sys.exit(main())
