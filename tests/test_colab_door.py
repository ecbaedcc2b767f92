"""The door through Colab: the lessons' first cell, the badges, and all lessons from there, in an imitation of Colab."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
from for_tools import tool
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "lessons").glob("*.md"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IS_COLAB_LIKE = Path(sys.prefix).name == ".venv-colab"
in_colab = pytest.mark.skipif(not IS_COLAB_LIKE, reason="holds with Colab's versions, where it is run too")
if IS_COLAB_LIKE and sys.platform != "linux":
    in_colab = pytest.mark.skip(reason="NOT TESTED: what Colab would do, for that is Linux, and this is not.")

badges = tool("badges")
HERE = badges.address()


def first_cell(path):
    """The first cell of code, of a lesson or a notebook."""
    return next(cell for cell in jupytext.read(path).cells if cell.cell_type == "code")


SET_UP = first_cell(LESSONS[0]).source


# --- the cell, as it stands -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", LESSONS + NOTEBOOKS, ids=lambda path: path.name)
def test_the_first_cell_is_the_same_in_all(path):
    cell = first_cell(path)
    assert cell.source == SET_UP and cell.metadata.tags == ["colab"]


def test_the_first_cell_is_a_few_lines_and_fetches_what_the_badge_opens():
    assert len(SET_UP.splitlines()) <= 20 and SET_UP == badges.first_cell(HERE)
    assert f'source, branch = "{HERE.url}", "{HERE.branch}"' in SET_UP


def test_anywhere_else_the_first_cell_does_nothing(tmp_path):
    code = f"import sys\nbefore = [*sys.path], {{*sys.modules}}\n{SET_UP}\n"
    code += "assert before[0] == sys.path and 'utils' not in sys.modules, sys.path"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "") and not [*tmp_path.iterdir()]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.name)
def test_nothing_that_colab_lacks_or_breaks_is_in_a_lesson(path):
    """autoreload fails there, ipympl has to be installed and enabled, %pip asks for a restart."""
    source = "\n".join(cell.source for cell in jupytext.read(path).cells if cell.cell_type == "code")
    assert not re.findall(r"autoreload|ipympl|%matplotlib|^[%!].*$|\bget_ipython\b", source, flags=re.M)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.name)
def test_a_lesson_needs_no_file_beside_it(path):
    """Colab has the notebook alone: a picture or a lesson that is linked by a relative path isn't there."""
    prose = "\n".join(cell.source for cell in jupytext.read(path).cells if cell.cell_type == "markdown")
    targets = re.findall(r"\]\(([^)\s]+)|(?:src|href)=\"([^\"]+)", prose)
    assert all((a or b).startswith(("https://", "#")) for a, b in targets), targets


# --- the badges -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", LESSONS + NOTEBOOKS, ids=lambda path: path.name)
def test_a_lesson_begins_with_a_badge_that_opens_itself(path):
    badge = jupytext.read(path).cells[0]
    opens = f"https://colab.research.google.com/github/{HERE.repository}/blob/{HERE.branch}/notebooks/{path.stem}.ipynb"
    assert badge.source.startswith("[![Open in Colab](") and badge.source.endswith(f"]({opens})")
    assert badge.metadata.slideshow.slide_type == "skip"


def test_the_readme_has_a_badge_for_each_lesson():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        assert f"/{HERE.repository}/blob/{HERE.branch}/notebooks/{path.name})" in readme


def test_every_address_is_the_one_that_pyproject_has():
    assert badges.write(HERE, only_check=True) == []


@pytest.fixture
def fork(tmp_path, monkeypatch):
    """A copy of all that holds the address, for tools/badges.py to work on."""
    for name in ("lessons", "notebooks", "utils"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "sample"))
    for name in (*badges.TEXTS, "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for module in (badges, badges.build_notebooks):
        monkeypatch.setattr(module, "ROOT", tmp_path)
        monkeypatch.setattr(module, "LESSONS", tmp_path / "lessons")
    monkeypatch.setattr(badges, "FIRST_CELL", tmp_path / "lessons" / "first_cell.py")
    monkeypatch.setattr(badges.build_notebooks, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(badges.build_notebooks, "UTILS", tmp_path / "utils")
    monkeypatch.setattr(sys, "argv", ["badges.py"])
    return tmp_path


def set_address(fork, **settings):
    file = fork / "pyproject.toml"
    text = file.read_text(encoding="utf-8")
    for name, value in settings.items():
        text, number = re.subn(rf'(?m)^{name} = ".*"$', f'{name} = "{value}"', text)
        assert number == 1
    file.write_text(text, encoding="utf-8")


def test_one_setting_and_one_command_move_all_addresses_and_no_notebook_is_stale(fork, monkeypatch, capsys):
    """To a name and a branch in which stands what the paths of the notebooks hold, too."""
    monkeypatch.chdir(fork)
    old, new, branch = HERE.repository, "a-school/notebooks", "autumn/notebooks-2027"
    set_address(fork, repository=new, branch=branch)
    assert badges.main() == 0
    capsys.readouterr()
    for path in (
        *fork.glob("*.md"),
        fork / "CITATION.cff",
        *fork.glob("lessons/*.*"),
        *fork.glob("notebooks/*.ipynb"),
    ):
        text = path.read_text(encoding="utf-8")
        assert f"/{old}" not in text, path.name
        if path.suffix == ".ipynb":
            assert f"{new}/blob/{branch}/notebooks/{path.name}" in text
            assert f'source, branch = \\"https://github.com/{new}\\", \\"{branch}\\"' in text
    assert all(badges.why_stale(lesson) is None for lesson in badges.build_notebooks.LESSONS.glob("*.md"))
    assert badges.main() == 0 and f"All of them lead to https://github.com/{new}, " in capsys.readouterr().out


def test_a_notebook_that_a_merge_has_broken_waits_to_be_built_anew(fork, monkeypatch, capsys):
    monkeypatch.chdir(fork)
    (fork / "notebooks" / "01_lenet.ipynb").write_text("<<<<<<< ours\n", encoding="utf-8")
    set_address(fork, branch="other")
    assert badges.main() == 0
    printed = capsys.readouterr().out
    assert "01_lenet.md: written" in printed and "01_lenet.ipynb" not in printed and "02_alexnet.ipynb" in printed


def test_a_notebook_that_was_stale_stays_so(fork, monkeypatch):
    monkeypatch.chdir(fork)
    lesson = sorted(fork.glob("lessons/*.md"))[0]
    lesson.write_text(lesson.read_text(encoding="utf-8") + "\nOne more sentence.\n", encoding="utf-8")
    set_address(fork, branch="other")
    assert badges.main() == 0
    assert badges.why_stale(lesson) == "lesson changed since"


def test_the_copy_of_a_lesson_gets_a_badge_of_its_own(fork, monkeypatch):
    monkeypatch.chdir(fork)
    shutil.copy(fork / "lessons" / "01_lenet.md", fork / "lessons" / "06_mine.md")
    assert badges.main() == 0
    opens = f"{badges.COLAB}/{HERE.repository}/blob/{HERE.branch}/notebooks/06_mine.ipynb"
    assert jupytext.read(fork / "lessons" / "06_mine.md").cells[0].source.endswith(f"]({opens})")


def test_check_writes_nothing_and_says_what_would_change(fork, monkeypatch, capsys):
    monkeypatch.chdir(fork)
    monkeypatch.setattr(sys, "argv", ["badges.py", "--check"])
    set_address(fork, branch="other")
    before = {path: path.read_bytes() for path in fork.rglob("*") if path.is_file()}
    assert badges.main() == 1
    printed = capsys.readouterr().out
    assert "README.md: has another address" in printed and "01_lenet.md" in printed and "make badges" in printed
    assert before == {path: path.read_bytes() for path in fork.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("repository", "deeper"),
        ("repository", "https://github.com/a/b"),
        ("branch", "my branch"),
        ("branch", ""),
        ("repository", "a/b.git"),
        ("repository", "../.."),
        ("branch", "/main/"),
        ("branch", "-x"),
        ("branch", "a..b"),
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_written(fork, monkeypatch, capsys, name, value):
    monkeypatch.chdir(fork)
    set_address(fork, **{name: value})
    before = (fork / "README.md").read_bytes()
    with pytest.raises(SystemExit):
        badges.main()
    assert f"{name} in pyproject.toml, under [tool.bigger-and-deeper], must be like" in capsys.readouterr().err
    assert (fork / "README.md").read_bytes() == before


# --- in the imitation of Colab ----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def origin(tmp_path_factory):
    """What GitHub would have if this working tree were there."""
    from for_colab import snapshot

    return snapshot(tmp_path_factory.mktemp("origin"), HERE.branch)


@pytest.fixture
def colab(origin, tmp_path):
    from for_colab import ImitatedColab

    return ImitatedColab(tmp_path, HERE.url, origin)


WHERE = "import utils; print(utils.__file__); print(sys.path[0])"


@in_colab
def test_the_first_cell_fetches_the_project_and_adds_what_is_missing_alone(colab):
    before = colab.freeze()
    assert not any(line.startswith("d2l") for line in before)
    fetched, where, book = colab.run([SET_UP, WHERE, "from d2l import torch as d2l; print(d2l.LeNet.__name__)"])
    folder = colab.content / "bigger-and-deeper"
    assert fetched == f"Bigger & Deeper is in {folder}. Installed: d2l==1.0.3.\n"
    assert where.splitlines() == [str(folder / "utils" / "__init__.py"), str(folder)]
    assert book == "LeNet\n"  # without a restart
    assert colab.freeze() - before == {"d2l==1.0.3"} and before < colab.freeze()


@in_colab
def test_whatever_else_is_missing_is_added_without_what_it_asks_for(colab):
    colab.remove("filelock", "tqdm")
    before = colab.freeze()
    fetched, _ = colab.run([SET_UP, "from utils import data, experiments"])
    assert "Installed: tqdm>=4.66, filelock>=3.13, d2l==1.0.3." in fetched
    added = {line.split("==")[0] for line in colab.freeze() - before}
    assert added == {"d2l", "filelock", "tqdm"} and before < colab.freeze()


@in_colab
def test_twice_is_harmless(colab):
    once, twice, where = colab.run([SET_UP, SET_UP, WHERE])
    assert once.endswith("Installed: d2l==1.0.3.\n") and twice.endswith("Nothing was missing.\n")
    before = colab.freeze()
    (again, _) = colab.run([SET_UP, WHERE])  # after a restart of the runtime
    assert again == twice and colab.freeze() == before
    assert where.splitlines()[0] == str(colab.content / "bigger-and-deeper" / "utils" / "__init__.py")


@in_colab
def test_the_clone_comes_before_another_package_of_that_name(colab):
    (colab.site / "utils").mkdir()
    (colab.site / "utils" / "__init__.py").write_text("raise ImportError('the wrong utils')\n", encoding="utf-8")
    _, where = colab.run([SET_UP, WHERE])
    assert where.startswith(str(colab.content / "bigger-and-deeper"))


@in_colab
def test_without_a_network_it_says_so_and_leaves_nothing(origin, tmp_path):
    from for_colab import ImitatedColab

    offline = ImitatedColab(tmp_path, HERE.url, "https://127.0.0.1:9/nobody")
    with pytest.raises(CellExecutionError) as raised:
        offline.run([SET_UP])
    assert raised.value.ename == "ConnectionError"
    assert raised.value.evalue.startswith(f"{HERE.url}, branch {HERE.branch}: not fetched. See that there is a network")
    assert "127.0.0.1" in raised.value.evalue, "what git said"
    assert not [*offline.content.iterdir()]


@pytest.mark.parametrize("what", ["an empty folder", "a folder", "a file"])
def test_something_else_of_its_name_is_left_as_it_is_and_named(tmp_path, monkeypatch, what):
    theirs = tmp_path / "bigger-and-deeper"
    theirs.write_text("notes", encoding="utf-8") if what == "a file" else theirs.mkdir()
    if what == "a folder":
        (theirs / "homework").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(FileExistsError, match=f"^{re.escape(str(theirs))} is not this project: rename it, and run "):
        exec(SET_UP, {})
    assert [*tmp_path.iterdir()] == [theirs]


@in_colab
def test_a_fetch_that_was_interrupted_is_begun_anew(colab):
    (colab.content / "bigger-and-deeper.part" / "utils").mkdir(parents=True)
    _, where = colab.run([SET_UP, WHERE])
    assert where.startswith(str(colab.content / "bigger-and-deeper"))
    assert [path.name for path in colab.content.iterdir()] == ["bigger-and-deeper"]


@in_colab
def test_where_only_pip_has_no_network_the_lessons_can_go_on(colab, tmp_path):
    colab.environment["PIP_FIND_LINKS"] = str(tmp_path / "nothing")
    (fetched,) = colab.run([SET_UP])
    assert "The book's package could not be installed, and no lesson needs it (" in fetched
    colab.remove("filelock")
    with pytest.raises(CellExecutionError) as raised:
        colab.run([SET_UP])
    assert raised.value.evalue.startswith("filelock>=3.13 must be installed, and pip could not do it:\n")
    assert raised.value.evalue.endswith("see that there is a network, then run this cell again")


def test_a_version_beyond_what_the_project_is_made_for_is_named(monkeypatch, capsys):
    from utils import colab

    here = {"torch": "3.1.0", "numpy": "9.0.0rc1", "ipywidgets": "7.7.1"}  # the last as Colab has it, and tested
    monkeypatch.setattr(colab, "_version", here.get)
    monkeypatch.setattr(colab, "_pip_install", lambda requirements: "")
    colab.set_up()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [
        "torch is 3.1.0 here, and the project is made for torch>=2.11,<3: should a cell fail, that may be why."
    ]


# Colab has no folder of Debian's with the images, and no test may need a network to fetch them.
NO_DATA = "from utils import data\ndata._from_cache = data._from_sources = lambda raw, report: None"


@in_colab
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_lesson_runs_there_from_its_first_cell_to_its_last(path, colab):
    """On the project's sample. On all images the notebooks themselves are tested, with the ordinary versions."""
    notebook = nbformat.read(path, as_version=4)
    colab.environment.pop("FASHION_MNIST_DIR", None)
    set_up = next(n for n, cell in enumerate(notebook.cells) if cell.source == SET_UP)
    notebook.cells.insert(set_up + 1, nbformat.v4.new_code_cell(NO_DATA))
    notebook.cells.append(nbformat.v4.new_code_cell(f"import os, sys\n{WHERE}"))
    *printed, where = colab.run(notebook)
    assert sum("THIS IS A SAMPLE" in text for text in printed) == 1
    assert where.startswith(str(colab.content / "bigger-and-deeper"))
    assert {file.name for file in colab.content.iterdir()} == {"bigger-and-deeper"}
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not any(output.get("name") == "stderr" for output in outputs)
