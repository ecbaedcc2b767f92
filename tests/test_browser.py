"""The explorers in a real browser: JupyterLab with ipywidgets 8, the classic Notebook with ipywidgets 7. And slides.

Where there is no browser these are skipped, and the summary says so (conftest.py). A test that fails leaves a picture
of the window, and says where. PICTURES=folder keeps one of the VGG explorer at both widths there.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

IS_COLAB_LIKE = Path(sys.prefix).name == ".venv-colab"
if IS_COLAB_LIKE:
    pytest.skip("the ordinary environment's run looks at the kernels of both", allow_module_level=True)

from browser import ROOT, SECONDS, Classic, JupyterLab, chromium, install_chromium, write_notebook  # noqa: E402
from playwright.sync_api import expect  # noqa: E402

from utils.architectures import VGG_SMALL  # noqa: E402
from utils.editing import with_num_blocks  # noqa: E402
from utils.models import build  # noqa: E402

WIDTHS = (1280, 900)
SMALL = ("from for_browser import Small\nSmall()", "6 * 7")
LESSON, SET_UP, EXPLORER = "03_vgg_blocks.ipynb", "load_fashion_mnist", "vgg_explorer("
START = VGG_SMALL["VGG-11 ⅛ + BN"]  # which the explorer shows at first
SKIPPED_FOR_BROWSER = "NOT TESTED: the explorers in a real browser, for there is none here."
SKIPPED_FOR_COLAB = (
    "NOT TESTED: the explorers under ipywidgets 7 in a real browser, for there is no .venv-colab here: `make test` "
    "makes it"
)


@pytest.fixture(scope="module")
def browser():
    if not (path := install_chromium.find_chromium()):
        pytest.skip(f"{SKIPPED_FOR_BROWSER} {install_chromium.TO_DO}")
    with chromium(path) as window:
        yield window


@pytest.fixture(scope="module")
def servers(browser, tmp_path_factory):
    """Both, started at the same time: each takes some seconds."""
    kinds = [JupyterLab, *([Classic] if Classic.python.exists() else [])]
    made = {kind: kind(tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("home")) for kind in kinds}
    with ExitStack() as stack:
        for server in made.values():
            stack.callback(server.__exit__)
            server.start()
        yield {kind: server.__enter__() for kind, server in made.items()}


@pytest.fixture(scope="module", params=[JupyterLab, Classic], ids=["JupyterLab", "classic Notebook"])
def server(request, servers):
    return servers.get(request.param) or pytest.skip(SKIPPED_FOR_COLAB)


in_jupyterlab = pytest.mark.parametrize("server", [JupyterLab], indirect=True, ids=["JupyterLab"])


@pytest.fixture(scope="module")
def lesson_begun(server, browser):
    """A copy of lesson 03, while its first cell runs: it imports torch, which takes some seconds; others are tested."""
    shutil.copy(ROOT / "notebooks" / LESSON, server.folder)
    with server.open(browser, LESSON) as notebook:
        notebook.begin(SET_UP)
        yield notebook


@pytest.fixture(scope="module")
def lesson(lesson_begun):
    """The lesson, run as far as its explorer needs it: nbval runs all of it."""
    lesson_begun.finish(SET_UP)
    return lesson_begun


@pytest.fixture(scope="module")
def small_notebook(server, browser, lesson_begun):
    write_notebook(server.folder / "small.ipynb", *SMALL)
    with server.open(browser, "small.ipynb") as notebook:
        notebook.run("Small()")
        yield notebook


@pytest.fixture
def small(small_notebook, picture_if_failed):
    picture_if_failed(small_notebook)
    return small_notebook


@pytest.fixture
def vgg(lesson, picture_if_failed):
    """The explorer as it starts: its cell is run again for each test."""
    picture_if_failed(lesson)
    lesson.run(EXPLORER)
    yield lesson
    expect(lesson.explorer.get_by_text("fault in the explorer")).to_have_count(0)
    assert lesson.errors == []


@pytest.fixture
def picture_if_failed(request, tmp_path):
    notebooks, failed_before = [], request.session.testsfailed
    yield notebooks.append
    if request.session.testsfailed > failed_before:
        for notebook in notebooks:
            notebook.page.screenshot(path=tmp_path / "failed.png")
            print(f"The window as the test left it: {tmp_path / 'failed.png'}")


# --- any explorer, in both front ends ---------------------------------------------------------------------------------


def test_a_slider_follows_the_arrow_keys_and_the_drawing_follows_the_slider(small):
    blocks, bars = small.slider("blocks"), small.explorer.locator("svg rect")
    blocks.press("Home")
    expect(bars).to_have_count(1)
    blocks.press("ArrowRight", times=3)
    expect(bars).to_have_count(4)
    assert blocks.readout == "4"
    small.slider("kernel").press("Home")
    small.slider("kernel").press("ArrowRight", times=2)
    expect(small.explorer.locator("svg text")).to_have_text("4 blocks, 5×5")


def test_a_slider_follows_the_mouse(small):
    blocks, bars = small.slider("blocks"), small.explorer.locator("svg rect")
    for share, value in ((1, "5"), (0, "1"), (0.5, "3")):
        blocks.drag_to(share)
        expect(bars).to_have_count(int(value))
        assert blocks.readout == value
    small.slider("kernel").drag_to(1)
    expect(small.explorer.locator("svg text")).to_have_text("3 blocks, 7×7")


def test_while_a_task_runs_other_cells_can_be_run_and_stop_is_heard(small):
    small.explorer.get_by_role("button", name="work").click()
    state = small.explorer.get_by_text("slice")
    expect(state).to_be_visible()
    small.run("6 * 7")
    expect(small.cell(1)).to_contain_text("42")
    expect(state).to_be_visible()
    small.explorer.get_by_role("button", name="stop").click()
    expect(small.explorer.get_by_text("stopped")).to_be_visible()  # and not "finished", a minute later


def test_an_error_in_a_callback_is_shown_and_the_explorer_goes_on(small):
    alert = small.explorer.get_by_role("alert")
    small.explorer.get_by_role("button", name="fail").click()
    expect(alert).to_have_text("OSError: the disk is full")
    blocks = small.slider("blocks")
    blocks.press("End")
    expect(small.explorer.locator("svg rect")).to_have_count(5)
    expect(alert).to_have_count(0)


@pytest.mark.parametrize(
    ("css", "style", "words"),
    [
        ("svg", "width: 2000px; max-width: none", "sticks out of the explorer: svg"),
        ("svg text", "transform: translateX(-30px)", "words stick out of the drawing: text “"),
        ("svg", "width: 60px", "letters of "),
        (".slider-container", "min-width: 0; flex: none; width: 20px", "a slider whose track is 2"),
        (".widget-slider .widget-label", "flex: none; width: 20px", "cut off, or scrolled sideways: label “blocks"),
        (".jupyter-button", "min-width: 2000px", "its edge is cut off: button “work"),
        (".jupyter-button", "margin-left: -5px", "its edge is cut off: button “work"),
    ],
    ids=["drawing", "drawing's words", "small letters", "track", "label", "right edge", "left edge"],
)
def test_what_is_cut_off_or_sticks_out_is_found(small, css, style, words):
    element = small.explorer.locator(css).first
    assert small.out_of_place() == []
    before = element.evaluate("e => e.style.cssText")
    element.evaluate("(e, style) => { e.style.cssText += style }", style)
    found = small.out_of_place()
    element.evaluate("(e, style) => { e.style.cssText = style }", before)
    assert any(words in line for line in found), found


def test_no_script_of_the_page_failed(small):
    assert small.errors == []


# --- the VGG explorer, in lesson 03 -----------------------------------------------------------------------------------


def in_block(notebook, block, what):
    """The slider of a block, counted from 1: what is "convolutions", "channels" or "kernel"."""
    return notebook.slider(number=1 + 3 * (block - 1) + ("convolutions", "channels", "kernel").index(what))


def network(notebook):
    """The drawing to scale."""
    return notebook.explorer.locator("svg", has_text="MACs")


def table(notebook):
    return notebook.explorer.locator("table").first


def shows(notebook, blocks, image_size=START.image_size):
    """Do the drawing's brackets follow, and the table with its total: as many parameters as torch counts?"""
    brackets = network(notebook).get_by_text(re.compile(r"^block \d$"))
    expect(brackets).to_have_text([f"block {n + 1}" for n in range(len(blocks))])
    net = build(replace(START, blocks=blocks, image_size=image_size))
    parameters = sum(parameter.numel() for parameter in net.parameters())
    expect(table(notebook).locator("tr", has_text="total")).to_contain_text(f"{parameters:,}")


def test_the_number_of_blocks_follows_mouse_and_keyboard_and_table_and_drawing_follow_it(vgg):
    vgg.explorer.get_by_text("All layers, as a table").click()
    shows(vgg, START.blocks)
    blocks = vgg.slider("blocks")
    blocks.drag_to(0)
    shows(vgg, START.blocks[:1])
    blocks.press("ArrowRight", times=2)
    shows(vgg, with_num_blocks(START.blocks[:1], 3))
    vgg.page.keyboard.press("ArrowRight")  # where the keyboard was, it still is
    shows(vgg, with_num_blocks(START.blocks[:1], 4))


@in_jupyterlab
def test_what_trains_stands_below_the_knobs_and_the_drawing_beside_them_or_below_as_there_is_room(vgg):
    def place(part):
        box = vgg.explorer.locator(f".the-{part}").bounding_box()
        return box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]

    vgg.show_file_browser(False)
    for width, is_beside in ((1280, True), (900, False)):
        vgg.resize(width)
        build_it, costs, train, points = map(place, ("build", "costs", "train", "points"))
        assert train[1] >= build_it[3] and points[1] >= costs[3]
        assert is_beside == (costs[0] >= build_it[2]) == (costs[1] < build_it[3])
        assert train[1] - build_it[3] < 20 if is_beside else costs[1] >= build_it[3]
    vgg.resize(max(WIDTHS))
    vgg.show_file_browser(True)


def test_the_kernel_size_follows_mouse_and_keyboard_and_table_and_drawing_follow_it(vgg):
    vgg.explorer.get_by_text("All layers, as a table").click()
    kernel = in_block(vgg, 1, "kernel")
    first, sees = table(vgg).locator("tr", has_text="features.0"), network(vgg).get_by_text("sees, px")
    expect(first).to_contain_text(re.compile(r"3×3, 1 → 8.*\b80\b", re.S))
    kernel.press("ArrowRight")
    expect(first).to_contain_text("5×5, 1 → 8")
    expect(first).to_contain_text("208")  # 5·5·1·8 weights and 8 biases
    expect(sees.locator("xpath=following-sibling::*[local-name() = 'text'][1]")).to_have_text("5")
    kernel.drag_to(1)
    expect(first).to_contain_text("13×13, 1 → 8")
    expect(first).to_contain_text(f"{13 * 13 * 8 + 8:,}")
    expect(sees.locator("xpath=following-sibling::*[local-name() = 'text'][1]")).to_have_text("13")
    assert in_block(vgg, 2, "kernel").readout == "3"


@in_jupyterlab
def test_a_network_too_deep_for_28_pixels_says_so_in_place_and_the_last_one_stays_on_display(vgg):
    drawn = network(vgg).evaluate("svg => svg.outerHTML")
    vgg.explorer.get_by_role("button", name="28").click()
    alert = vgg.explorer.get_by_role("alert")
    expect(alert).to_contain_text("Block 5 can’t be built")
    expect(alert).to_contain_text("What would help:")
    assert network(vgg).evaluate("svg => svg.outerHTML") == drawn
    assert vgg.out_of_place() == []
    vgg.slider("blocks").press("ArrowLeft")
    shows(vgg, START.blocks[:4], image_size=28)
    expect(alert).to_have_count(0)


@in_jupyterlab
def test_training_shows_its_curve_stops_at_the_button_and_leaves_a_point_that_outlives_the_kernel(vgg):
    explorer, training = vgg.explorer, vgg.explorer.get_by_role("status").filter(has_text="training: ")
    explorer.get_by_role("button", name="30 s").click()
    explorer.get_by_role("button", name="Train").click()
    expect(training).to_be_visible()
    for _ in range(2):  # it grows, and grows again
        vgg.wait_for_change_of("svg:has(text:text-is('training images seen')) polyline", "points")
    vgg.run("my_prediction = ")  # other cells can be run meanwhile
    explorer.get_by_role("button", name="Train").click()
    expect(explorer.get_by_role("alert")).to_contain_text("A network is being trained")
    expect(training).to_be_visible()
    left = int(re.search(r"(\d+) s left", training.inner_text())[1])
    pressed_at = time.perf_counter()
    explorer.get_by_role("button", name="■").click()
    expect(training).to_have_count(0)
    waited = time.perf_counter() - pressed_at
    assert waited < left / 4, f"it stopped after {waited:.1f} s, and {left} were left"
    expect(explorer.get_by_text("you stopped it")).to_be_visible()

    name = explorer.get_by_role("textbox")
    expect(name).to_have_value(START.label)
    point = explorer.get_by_text(re.compile(r"^\d+\.\d % · .* images/s .*stopped$"))
    accuracy = point.inner_text().split()[0]
    plot = explorer.get_by_alt_text(re.compile(rf"{re.escape(START.label)} .*{re.escape(accuracy)}"))
    expect(plot).to_be_visible()

    vgg.restart()
    vgg.run(SET_UP)
    vgg.run(EXPLORER)
    expect(name).to_have_value(START.label)
    expect(point).to_contain_text(accuracy)
    expect(plot).to_be_visible()


def test_nothing_is_cut_off_and_nothing_has_to_be_scrolled_sideways(vgg):
    for width in WIDTHS:
        vgg.resize(width)
        for is_shown in (True, False):
            vgg.show_file_browser(is_shown)
            assert vgg.out_of_place() == [], f"{width} px, the file browser {'is' if is_shown else 'is not'} shown"
        if folder := os.environ.get("PICTURES"):
            vgg.screenshot(Path(folder) / f"vgg-explorer-{type(vgg).__name__}-{width}.png")
    vgg.resize(max(WIDTHS))
    vgg.show_file_browser(True)


# --- the other explorers ----------------------------------------------------------------------------------------------

OTHERS = (
    """from utils.architectures import LENET
from utils.data import load_fashion_mnist
from utils.models import build
from utils import widgets
data = load_fashion_mnist(report=lambda line: None)
explorers = iter([lambda: widgets.kernel_laboratory(data), widgets.shape_calculator,
                  lambda: widgets.feature_viewer(build(LENET), data), lambda: widgets.training_clinic(data),
                  widgets.roofline_explorer])""",
    "next(explorers)()",
)


@in_jupyterlab
def test_nothing_is_cut_off_in_the_other_explorers(server, browser):
    write_notebook(server.folder / "others.ipynb", *OTHERS)
    with server.open(browser, "others.ipynb") as notebook:
        notebook.run("explorers = ")
        for name in ("laboratory", "calculator", "viewer", "clinic", "roofline"):
            notebook.run("next(explorers)")  # in place of the one before
            for width in WIDTHS:
                notebook.resize(width)
                for is_shown in (True, False):
                    notebook.show_file_browser(is_shown)
                    found = notebook.out_of_place()
                    assert found == [], f"{name}, {width} px, the file browser {'is' if is_shown else 'is not'} shown"
        assert notebook.errors == []


# --- slides -----------------------------------------------------------------------------------------------------------

# In place of what shows the slides, which the page fetches from the network: it says how high the page is, which slide
# is looked at, and that there is another.
REVEAL = """window.require = (...words) =>
    words.at(-2)[0].endsWith("/dist/reveal.js") && words.at(-1)(window.Reveal ??= {
    heard: {}, laidOut: 0, isReady: () => false, layout() { this.laidOut++ },
    initialize(config) { this.config = config }, getConfig() { return this.config },
    getCurrentSlide() { return this.slide },
    addEventListener(name, heard) { (this.heard[name] ??= []).push(heard) }})"""
ALL_HEIGHTS = """fit => [...document.querySelectorAll("section > section")].map(slide => {
    Reveal.slide = slide
    if (fit) Reveal.heard.slidechanged.at(-1)()
    return slide.scrollHeight})"""


def test_what_is_higher_than_its_slide_is_made_smaller_until_it_fits_and_the_rest_is_left_alone(browser, tmp_path):
    """Lesson 05 has a table and a plot on one slide. Without reveal.js's own style: the heights are nearly those."""
    name = "05_throughput_accuracy"
    command = [sys.executable, "-m", "jupyter", "nbconvert", "--to", "slides", f"--output-dir={tmp_path}"]
    settings = ["--config", str(ROOT / "tools" / "slides" / "config.py")]
    subprocess.run([*command, *settings, str(ROOT / "notebooks" / f"{name}.ipynb")], check=True, capture_output=True)
    page = browser.new_page(viewport={"width": 1500, "height": 1000})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.route("http**", lambda route: route.abort())
    page.route("**/require.min.js", lambda route: route.fulfill(body=REVEAL, content_type="text/javascript"))
    page.goto((tmp_path / f"{name}.slides.html").as_uri())
    before, after, again = (page.evaluate(ALL_HEIGHTS, fit) for fit in (False, True, True))
    page_height = page.evaluate("Number(Reveal.config.height)")
    assert page_height == 1000 and max(before) > page_height >= max(after)
    for old, new in zip(before, after, strict=True):
        assert new == old if old <= page_height else new > 0.6 * page_height, "no smaller than need be"
    assert after == again and page.evaluate("Reveal.laidOut") == 2 * len(after)
    page.evaluate("for (const heard of Reveal.heard.ready) heard()")  # as when a link leads into the middle
    assert page.evaluate("Reveal.laidOut") == 2 * len(after) + 1 and errors == []
    page.close()


# --- which browser, and what is said where there is none --------------------------------------------------------------

posix = pytest.mark.skipif(os.name != "posix", reason="needs a shell")
RUNS, SAYS_SNAP = "echo '<html><p>it runs</p></html>'", "echo 'Command requires the chromium snap to be installed.'"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """One without a browser and without apt-get, where nobody is root: `machine(name, code)` puts a program there."""

    def put(name, code):
        file = tmp_path / name
        file.write_text(f"#!/bin/sh\n{code}\n", encoding="utf-8")
        file.chmod(0o755)
        return file

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(install_chromium.NAMED, raising=False)
    monkeypatch.setattr(install_chromium, "ELSEWHERE", ())
    monkeypatch.setattr(install_chromium.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(install_chromium, "is_debian", lambda: True)
    return put


@posix
def test_a_program_that_only_says_to_install_a_snap_is_passed_over(machine):
    machine("chromium-browser", SAYS_SNAP)
    assert install_chromium.find_chromium() is None
    chrome = machine("google-chrome", RUNS)
    assert install_chromium.find_chromium() == str(chrome)


@posix
def test_the_browser_that_is_named_is_taken_and_no_other(machine, monkeypatch, tmp_path):
    machine("chromium", RUNS)
    mine = machine("my own", RUNS)
    monkeypatch.setenv("CHROMIUM", str(mine))
    assert install_chromium.find_chromium() == str(mine)
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "nowhere"))
    assert install_chromium.find_chromium() is None


@posix
@pytest.mark.parametrize("sudo", ["exit 0", "echo a password is required >&2; exit 1"])
def test_what_nobody_may_install_is_not_tried_and_it_says_what_to_do(machine, tmp_path, sudo):
    """With no sudo, or one that asks for a password."""
    if "exit 1" in sudo:
        machine("sudo", sudo)
    machine("apt-get", f"touch {tmp_path}/called")
    with pytest.raises(SystemExit, match="No Chromium or Chrome that runs is here") as ended:
        install_chromium.main()
    assert "sudo apt-get install chromium" in str(ended.value) and not (tmp_path / "called").exists()


@posix
def test_where_sudo_asks_nothing_it_is_installed_if_need_be_after_an_update(machine, tmp_path, capfd):
    machine("sudo", f'shift; echo "$@" >> {tmp_path}/called; "$@"')
    machine("env", 'shift; "$@"')
    machine("true", "exit 0")
    browser = f"printf '#!/bin/sh\\n%s\\n' \"{RUNS}\" > {tmp_path}/chromium; /bin/chmod +x {tmp_path}/chromium"
    machine(
        "apt-get",
        f"[ $1 = update ] && exec /bin/touch {tmp_path}/lists\n[ -e {tmp_path}/lists ] || exit 100\n{browser}",
    )
    install_chromium.main()
    assert capfd.readouterr().out.endswith(f"The browser for the tests: {tmp_path}/chromium\n")
    asked = (tmp_path / "called").read_text(encoding="utf-8").splitlines()
    install = "env DEBIAN_FRONTEND=noninteractive apt-get install -y chromium"
    assert asked == ["true", install, "env DEBIAN_FRONTEND=noninteractive apt-get update", install]


def test_where_there_is_no_browser_the_summary_says_what_was_not_tested_and_what_to_do():
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "no_script_of_the_page")
    environment = os.environ | {"CHROMIUM": "nowhere"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert run.returncode == 0, run.stdout
    assert "2 tests were skipped. NOT TESTED: the explorers in a real browser" in run.stdout
    assert install_chromium.TO_DO in run.stdout
