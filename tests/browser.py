"""A real browser on a real Jupyter, for test_browser.py: JupyterLab, or the classic Notebook with ipywidgets 7.

    with JupyterLab(folder, home) as server, chromium(find_chromium()) as browser:
        notebook = server.open(browser, "03_vgg_blocks.ipynb")
        notebook.run("vgg_explorer(")
        notebook.explorer.get_by_role("button", name="■").click()

Everything is on loopback, behind a token. Folders of settings and histories are new and empty: nothing of yours is read
or written. What is waited for is a state that is seen, never a time; `SECONDS` is how long until a wait is given up.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import nbformat
import platformdirs
import psutil
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
BIN, EXE = ("Scripts", ".exe") if os.name == "nt" else ("bin", "")
HEIGHT = 900  # of a window, in pixels
SECONDS = 120  # two busy cores, on which a kernel that imports torch takes up to 20

spec = importlib.util.spec_from_file_location("install_chromium", ROOT / "tools" / "install_chromium.py")
install_chromium = importlib.util.module_from_spec(spec)
spec.loader.exec_module(install_chromium)


# --- the browser ------------------------------------------------------------------------------------------------------


@contextmanager
def chromium(path: str) -> Iterator[Browser]:
    """The browser at `path`, without a window, its own profile and nothing to fetch from the network."""
    expect.set_options(timeout=SECONDS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*install_chromium.QUIET])
        try:
            yield browser
        finally:
            browser.close()


# --- Jupyter ----------------------------------------------------------------------------------------------------------


class Server:
    """A Jupyter server of its own on loopback, as a context: it serves `folder`, and ends with all its kernels."""

    python: ClassVar[Path]
    module: ClassVar[str]
    options: ClassVar[tuple[str, ...]] = ()
    address: ClassVar[str]  # of a notebook, below the server's

    def __init__(self, folder: Path, home: Path) -> None:
        """folder: with the notebooks. home: an empty one, for everything else that Jupyter and the notebooks write."""
        self.folder, self.home, self.token = folder, home, secrets.token_hex(16)
        self.url = ""
        self._process: subprocess.Popen | None = None

    def environment(self) -> dict[str, str]:
        """The kernels' too: with the project's `utils`, results of their own, and the caches of this machine."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "IPYTHON", "PYTEST"))}
        folders = {
            "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
            "IPYTHONDIR": "ipython", "BIGGER_AND_DEEPER_RESULTS": "results",
        }  # fmt: skip
        if sys.platform == "linux":  # elsewhere the caches go with it: Fashion-MNIST, and matplotlib's list of fonts
            folders["HOME"] = ""
            inherited["XDG_CACHE_HOME"] = platformdirs.user_cache_dir()
        own = {name: str(self.home / folder) for name, folder in folders.items()}
        path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
        return {**inherited, **own, "PYTHONPATH": path, "JUPYTER_TOKEN": self.token}

    def start(self) -> None:
        """Begin to start; entering the context waits until it has. So several can start at a time."""
        command = [str(self.python), "-m", self.module, "--no-browser", "--ip=127.0.0.1", f"--port={free_port()}"]
        if os.name == "posix" and os.geteuid() == 0:
            command.append("--allow-root")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, *self.options], cwd=self.folder, env=self.environment(), stdout=log, stderr=log
            )

    def __enter__(self) -> Server:
        if self._process is None:
            self.start()
        until = time.monotonic() + SECONDS
        while not self.url:
            if self._process.poll() is not None or time.monotonic() > until:
                self.__exit__()
                raise RuntimeError(f"Jupyter did not start. The end of what it wrote:\n{self.log()[-3000:]}")
            time.sleep(0.05)
            for file in (self.home / "runtime").glob("*server-*.json"):  # written when it listens
                with suppress(json.JSONDecodeError):  # half of it, as yet
                    self.url = json.loads(file.read_text(encoding="utf-8"))["url"]
        return self

    def __exit__(self, *error: object) -> None:
        """End it and its kernels, at once: what they wrote is of no use any more. Nothing else is touched."""
        if self._process is None:
            return
        with suppress(psutil.NoSuchProcess):
            server = psutil.Process(self._process.pid)
            family = [server, *server.children(recursive=True)]  # each knows when it began: its number may be reused
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(family, timeout=10)
        self._process.wait()

    @property
    def _log(self) -> Path:
        return self.home / "server.log"

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def open(self, browser: Browser, name: str, width: int = 1280) -> Notebook:
        """The notebook `name` in a window of its own, `width` pixels wide, its kernel ready."""
        page = browser.new_page(viewport={"width": width, "height": HEIGHT})
        page.set_default_timeout(SECONDS * 1000)
        notebook = self.front_end(page, self.folder / name)
        page.goto(f"{self.url}{self.address.format(name=name, stem=Path(name).stem)}?token={self.token}")
        notebook.wait_until_idle()
        return notebook


def free_port() -> int:
    """One that nobody listens on; Jupyter takes the next if somebody does by the time it gets there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# --- a notebook -------------------------------------------------------------------------------------------------------


class Notebook(ABC):
    """A notebook in a browser's window: run its cells, restart its kernel, find what it shows."""

    cell_css: ClassVar[str]
    # A slider's handle, and from there its track: of ipywidgets 8; of ipywidgets 7, in whichever front end.
    handle_css = ".noUi-handle, .ui-slider-handle"
    prompt_css: ClassVar[str]  # beside a cell's input: the cell's number, or a star while it runs or waits to
    kernel_css: ClassVar[str]  # where the kernel's name stands
    idle_css: ClassVar[str]
    track_from_handle = "xpath=ancestor::*[contains(@class, 'noUi-target') or contains(@class, 'ui-slider')][1]"
    error_css: ClassVar[str]  # a traceback below a cell, or what was written to stderr
    run_selected: ClassVar[tuple[str, str]]  # a menu, and what is chosen from it
    busy = "[*]"

    def __init__(self, page: Page, file: Path) -> None:
        self.page, self.file = page, file
        self.errors: list[str] = []  # what went wrong in the page's own scripts
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def __enter__(self) -> Notebook:
        return self

    def __exit__(self, *error: object) -> None:
        self.page.close()

    # --- cells --------------------------------------------------------------------------------------------------------

    def cell(self, number: int) -> Locator:
        """The cell with this number, counted from 0, prose too."""
        return self.page.locator(self.cell_css.format(number=number, place=number + 1))

    def number_of(self, code: str) -> int:
        """Of the first code cell that contains this."""
        cells = nbformat.read(self.file, as_version=4).cells
        found = [n for n, cell in enumerate(cells) if cell.cell_type == "code" and code in cell.source]
        assert found, f"no cell of {self.file.name} contains {code!r}"
        return found[0]

    def run(self, code: str) -> None:
        """Run the cell that contains `code`, by the menu, and wait until that is done. AssertionError if it failed."""
        self.begin(code)
        self.finish(code)

    def begin(self, code: str) -> None:
        """Have the cell run that contains `code`; `finish` waits for it."""
        self._prompt(code).click()
        self._choose(*self.run_selected)

    def finish(self, code: str) -> None:
        expect(self._prompt(code)).to_have_text(re.compile(r"\[\d+\]"))
        self.wait_until_idle()
        wrong = self.cell(self.number_of(code)).locator(self.error_css).all_inner_texts()
        assert not wrong, f"a cell of {self.file.name} raised, or wrote to stderr:\n" + "\n".join(wrong)

    def _prompt(self, code: str) -> Locator:
        return self.cell(self.number_of(code)).locator(self.prompt_css).first

    @abstractmethod
    def _choose(self, menu: str, entry: str) -> None:
        """Choose an entry of a menu: each front end has its own."""

    # --- the kernel ---------------------------------------------------------------------------------------------------

    def wait_until_idle(self) -> None:
        """Until the kernel does nothing, and no cell waits."""
        expect(self.page.locator(self.kernel_css)).to_contain_text("Python 3")  # without one JupyterLab is idle, too
        self.page.locator(self.idle_css).wait_for()
        expect(self.page.locator(self.prompt_css, has_text=self.busy)).to_have_count(0)

    # --- what it shows ------------------------------------------------------------------------------------------------

    @property
    def explorer(self) -> Locator:
        return self.page.locator(".bigger-and-deeper")

    def slider(self, words: str = "", number: int = 0) -> Slider:
        """The slider that is described so, or else the explorer's slider with this number, counted from 0."""
        if words:
            named = self.page.locator(".widget-label", has_text=words)
            return Slider(self, self.explorer.locator(".widget-slider").filter(has=named).first)
        return Slider(self, self.explorer.locator(".widget-slider").nth(number))

    def resize(self, width: int) -> None:
        """Make the window so wide, and wait until the explorer has found its place in it."""
        self.page.set_viewport_size({"width": width, "height": HEIGHT})
        self.explorer.evaluate(WAIT_UNTIL_SETTLED)

    @abstractmethod
    def show_file_browser(self, is_shown: bool) -> None:
        """JupyterLab's panel at the left, which leaves a notebook little room in a narrow window."""

    def wait_for_change_of(self, css: str, attribute: str) -> None:
        """Until an attribute of what the explorer has at `css` isn't what it is now."""
        values = "(elements, name) => elements.map(element => element.getAttribute(name)).join()"
        found, until = self.explorer.locator(css), time.monotonic() + SECONDS
        before = found.evaluate_all(values, attribute)
        while found.evaluate_all(values, attribute) == before:
            assert time.monotonic() < until, f"{css} stays as it is"
            time.sleep(0.05)

    def out_of_place(self) -> list[str]:
        """What is cut off, sticks out, or has to be scrolled sideways in the explorer, in words; [] if all is well."""
        return self.explorer.evaluate(LOOK_FOR_WHAT_IS_CUT_OFF)

    def screenshot(self, path: Path) -> None:
        """The explorer, all of it: in a window as high as that takes."""
        size = self.page.viewport_size
        height = self.explorer.bounding_box()["height"]
        self.page.set_viewport_size({"width": size["width"], "height": int(height) + 400})
        self.explorer.screenshot(path=path)
        self.page.set_viewport_size(size)


class Slider:
    """A slider of an explorer: read it, drag it, move it with the arrow keys."""

    def __init__(self, notebook: Notebook, widget: Locator) -> None:
        self.notebook, self.widget = notebook, widget

    @property
    def handle(self) -> Locator:
        return self.widget.locator(self.notebook.handle_css)

    @property
    def readout(self) -> str:
        return self.widget.locator(".widget-readout").inner_text().strip()

    def press(self, key: str, times: int = 1) -> None:
        """key: "ArrowRight", "ArrowLeft", "Home" …"""
        self.handle.focus()
        for _ in range(times):
            self.notebook.page.keyboard.press(key)

    def drag_to(self, share: float) -> None:
        """Take the handle with the mouse and let it go at this share of the track: 0 for its left end, 1 for its
        right."""
        self.widget.scroll_into_view_if_needed()
        handle, track = self.handle.bounding_box(), self.handle.locator(self.notebook.track_from_handle).bounding_box()
        y = handle["y"] + handle["height"] / 2
        mouse = self.notebook.page.mouse
        mouse.move(handle["x"] + handle["width"] / 2, y)
        mouse.down()
        mouse.move(track["x"] + share * track["width"], y, steps=8)
        mouse.up()


class LabNotebook(Notebook):
    """JupyterLab 4 with ipywidgets 8."""

    cell_css = '.jp-Notebook .jp-Cell[data-windowed-list-index="{number}"]'  # not each is in the page at each time
    prompt_css = ".jp-InputPrompt"
    kernel_css = ".jp-NotebookPanel-toolbar .jp-KernelName"
    idle_css = '.jp-NotebookPanel-toolbar .jp-Notebook-ExecutionIndicator[data-status="idle"]'
    error_css = '.jp-RenderedText[data-mime-type$=".stderr"], .jp-RenderedText[data-mime-type$=".error"]'
    run_selected = "Run", "Run Selected Cell and Do not Advance"

    def _choose(self, menu: str, entry: str) -> None:
        self.page.locator(".lm-MenuBar-item", has_text=re.compile(f"^{menu}$")).click()
        self.page.locator(".lm-Menu-item:not(.lm-mod-disabled)", has_text=entry).click()

    def restart(self) -> None:
        """Restart the kernel and clear all outputs, from the menu; wait until the new one is idle."""
        self._choose("Kernel", "Restart Kernel and Clear Outputs of All Cells")
        self.page.locator(".jp-Dialog .jp-mod-accept").click()
        expect(self.page.locator(".jp-OutputArea-output")).to_have_count(0)
        self.wait_until_idle()

    def show_file_browser(self, is_shown: bool) -> None:
        panel = self.page.locator("#jp-left-stack")
        if panel.is_visible() != is_shown:
            self.page.locator('.jp-SideBar li[data-id="filebrowser"]').click()
            panel.wait_for(state="visible" if is_shown else "hidden")
        self.explorer.evaluate(WAIT_UNTIL_SETTLED)


class ClassicNotebook(Notebook):
    """Notebook 6.5 with ipywidgets 7: the front end of that generation that can be had without Colab."""

    cell_css = "#notebook-container > .cell:nth-child({place})"
    prompt_css = ".input_prompt"
    kernel_css = "#kernel_indicator"
    idle_css = "#kernel_indicator_icon.kernel_idle_icon"
    error_css = ".output_stderr, .output_error"
    run_selected = "Cell", "Run Cells"

    def show_file_browser(self, is_shown: bool) -> None:
        """It has none."""

    def _choose(self, menu: str, entry: str) -> None:
        self.page.locator("#menubar .dropdown-toggle").get_by_text(menu, exact=True).click()
        self.page.locator("#menubar .dropdown.open li > a").get_by_text(entry, exact=True).click()


class JupyterLab(Server):
    """The environment's own JupyterLab."""

    python = Path(sys.executable)
    module = "jupyterlab"
    address = "lab/workspaces/{stem}/tree/{name}"  # of its own: else a window opens what the last one had open
    options = ("--LabApp.extension_manager=readonly",)  # which otherwise asks the network what there is
    front_end = LabNotebook


class Classic(Server):
    """The classic Notebook of .venv-colab; its kernels have Colab's versions too."""

    python = ROOT / ".venv-colab" / BIN / f"python{EXE}"
    module = "notebook"
    address = "notebooks/{name}"
    front_end = ClassicNotebook


# --- what is looked for in the page -----------------------------------------------------------------------------------

# In JavaScript: only the page knows where everything came to lie.

WAIT_UNTIL_SETTLED = """
element => new Promise(done => {
  let width = -1, frames = 0
  const look = () => {
    const now = element.getBoundingClientRect().width
    frames = now === width ? frames + 1 : 0
    width = now
    frames < 10 ? requestAnimationFrame(look) : done()
  }
  look()
})
"""

# A table in a box of its own that scrolls is as it should be; a pixel is rounding. In drawings letters have 11 pixels.
LOOK_FOR_WHAT_IS_CUT_OFF = """
explorer => {
  const found = [], slack = 1.5
  const words_of = element => (element.innerText ?? element.textContent).trim().replace(/\\s+/g, " ")
  const name = element => `${element.tagName.toLowerCase()} “${words_of(element).slice(0, 40)}”`
  const box = element => element.getBoundingClientRect()
  const is_seen = element => box(element).width > 0 && box(element).height > 0
  const is_of_table = element => element.closest("table") || element.querySelector(":scope > table")
  const sticks_out = (inner, outer) =>
    inner.left < outer.left - slack || inner.right > outer.right + slack ||
    inner.top < outer.top - slack || inner.bottom > outer.bottom + slack

  // From the explorer's output to the whole page: what is wider than its place is scrolled or cut.
  for (let around = explorer; around; around = around.parentElement)
    if (around.scrollWidth > around.clientWidth + slack && getComputedStyle(around).overflowX !== "visible")
      found.push(`wider than its place by ${around.scrollWidth - around.clientWidth} px: ${name(around)}`)

  const own = box(explorer)
  for (const element of explorer.querySelectorAll("*")) {
    if (!is_seen(element) || element.closest("defs, .noUi-target, .ui-slider") || is_of_table(element)) continue
    const place = box(element)
    if (place.left < own.left - slack || place.right > own.right + slack)
      found.push(`sticks out of the explorer: ${name(element)}`)
    const clips = element => element instanceof HTMLElement && getComputedStyle(element).overflowX !== "visible"
    if (clips(element) && element.scrollWidth > element.clientWidth + slack)
      found.push(`cut off, or scrolled sideways: ${name(element)}`)
    let around = element.parentElement
    while (around !== explorer && !clips(around)) around = around.parentElement
    if (place.left < box(around).left - 0.5 || place.right > box(around).right + 0.5)
      found.push(`its edge is cut off: ${name(element)}`)
  }
  for (const track of explorer.querySelectorAll(".noUi-target, .ui-slider"))
    if (is_seen(track.closest(".widget-slider")) && box(track).width < 40)
      found.push(`a slider whose track is ${Math.round(box(track).width)} px: ${name(track.closest(".widget-slider"))}`)
  for (const drawing of explorer.querySelectorAll("svg")) {
    const scale = box(drawing).width / drawing.viewBox.baseVal.width
    for (const words of drawing.querySelectorAll("text")) {
      if (is_seen(words) && sticks_out(box(words), box(drawing)))
        found.push(`words stick out of the drawing: ${name(words)}`)
      const size = scale * parseFloat(words.getAttribute("font-size"))
      if (is_seen(words) && size < 10.95) found.push(`letters of ${size.toFixed(1)} px: ${name(words)}`)
    }
  }
  return found
}
"""


def write_notebook(path: Path, *cells: str) -> None:
    """A notebook with these code cells."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    written: Any = nbformat.v4.new_notebook(cells=[*map(nbformat.v4.new_code_cell, cells)], metadata=kernel)
    nbformat.write(written, path)
