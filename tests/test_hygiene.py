"""The repository stays healthy: layout, links, licences, hooks, workflow; and the tools that open the other doors."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import jupytext
import pytest
import yaml
from for_tools import of_this_machine, tool

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
WORKFLOW = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+): .*##", MAKEFILE, flags=re.M))
LESSONS = sorted((ROOT / "lessons").glob("*.md"))

pytestmark = pytest.mark.system

links, lint = tool("links"), tool("lint")
other_versions, conda_door, elsewhere = tool("other_versions"), tool("conda_door"), tool("elsewhere")


def ours():
    """The files that are in the repository, or would be if all were committed."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True)
    if listed.returncode:
        pytest.skip("NOT TESTED: what is in the repository, for this is no checkout of git's")
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


# --- what is in the repository ----------------------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize("check", ["code", "format", "addresses", "links"])
def test_make_lint_finds_nothing(check):
    """All but stale notebooks, which tests/test_notebooks.py looks at."""
    run = subprocess.run([sys.executable, *lint.CHECKS[check]], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert run.returncode == 0, run.stdout + run.stderr


def test_ruff_looks_at_the_notebooks_themselves():
    assert "notebooks" not in str(PROJECT["tool"]["ruff"].get("exclude", "")) and "." in lint.CHECKS["code"]


def test_nothing_is_large_left_over_or_of_one_system():
    for path in ours():
        name, size = path.relative_to(ROOT).as_posix(), path.stat().st_size
        assert size < (5_000_000 if "utils/sample" in name else 1_000_000), f"{name}: {size:,} bytes"
        assert path.name != "uv.lock" and not re.search(r"~$|\.(orig|rej|bak|swp|part)$|\.DS_Store$", name), name
        if path.suffix in (".py", ".md", ".toml", ".yml", ".cff", ".ipynb", ".txt", ".csv", ".jsonl"):
            content = path.read_bytes()
            assert b"\r" not in content, f"{name} has line endings of Windows"
            assert not re.search(rb"^(<<<<<<<|>>>>>>>) ", content, flags=re.M), f"{name} has the marks of a merge"
            assert not content or content.endswith(b"\n") or path.suffix == ".ipynb", (
                f"{name}: its last line has no end"
            )


def test_nobodys_machine_is_named_in_results():
    for path in (ROOT / "results" / "reference").rglob("*"):
        if path.is_file():
            found = of_this_machine().search(path.read_text(encoding="utf-8", errors="replace"))
            assert not found, (path.name, found)


# --- links ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pages(tmp_path):
    """A folder with a page that links, and what it links to."""
    for folder in ("lessons", "utils", "tools", "tests", "results/reference"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "other.md").write_text("# One: of two!\n\n## The data\n", encoding="utf-8")
    return tmp_path


def write(pages, text, name="README.md"):
    (pages / name).write_text(text, encoding="utf-8")
    return [target for _, target in links.broken_links(pages)]


@pytest.mark.parametrize(
    "text",
    [
        "[a](other.md)", "[a](other.md#the-data)", "[a](other.md#one-of-two)", "[a](https://example.org/none)",
        "# Here\n[a](#here)", "[a]: other.md", "`[a](none.md)`", "```\n[a](none.md)\n```", "[a](mailto:a@b.c)",
        "![a](results/reference/)",
        "your runs: `results/local/curve.svg`", "edit `lessons/NN_name.md`", "`tests/`, or `results/reference/`",
    ],
)  # fmt: skip
def test_what_is_there_is_no_broken_link(pages, text):
    assert write(pages, text) == []


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("[a](none.md)", "none.md"), ("![a](pictures/none.png)", "pictures/none.png"), ("[a](#none)", "#none"),
        ("[a](other.md#none)", "other.md#none"), ('<img src="none.svg">', "none.svg"),
        ("[![a](https://example.org/a.svg)](none.ipynb)", "none.ipynb"), ("see `tests/none.txt`", "tests/none.txt"),
        ("[a]: none.md", "none.md"), ("```bash\n# None\n```\n[a](#none)", "#none"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_found(pages, text, target):
    assert write(pages, text) == [target]


def test_docstrings_and_comments_are_read_too_and_code_is_not(pages):
    code = '"""Held to tests/none.txt."""\nA = "tests/made_here.txt"  # as utils/none.py has it\n'
    assert write(pages, code, "utils/a.py") == ["tests/none.txt", "utils/none.py"]


def test_external_links_are_listed_with_where_they_stand(pages):
    write(pages, "[a](https://example.org/a_(b)). <https://example.org/c>, http://127.0.0.1/none")
    write(pages, '"""From https://example.org/c."""\n', "utils/a.py")
    found = links.external_links(pages)
    assert found["https://example.org/c"] == ["README.md", "utils/a.py"] and len(found) == 2


def test_an_external_link_that_is_dead_is_named_with_what_it_answers(monkeypatch, capsys):
    import http.server
    import threading

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/there" else 404)
            self.end_headers()

        def log_message(self, *words):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        at = f"http://127.0.0.1:{server.server_port}"
        found = {
            f"{at}/there": ["README.md"],
            f"{at}/gone": ["README.md", "utils/a.py"],
            "http://127.0.0.1:9/": ["b.md"],
        }
        monkeypatch.setattr(links, "external_links", lambda root: found)
        monkeypatch.setattr(sys, "argv", ["links.py", "--fetch"])
        assert links.main() == 1
        server.shutdown()
    said = capsys.readouterr().err
    assert f"{at}/gone: answers 404 (README.md, utils/a.py)" in said and "/there" not in said and ":9/: " in said


# --- licences, citation, versions -------------------------------------------------------------------------------------


def test_the_licences_are_whole_and_the_readme_says_which_is_for_what():
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License\n")
    text = (ROOT / "LICENSE-CC-BY-4.0.txt").read_text(encoding="utf-8")
    assert text.startswith("Attribution 4.0 International") and len(text) > 18_000
    assert all(f"Section {number} -- " in text for number in range(1, 9))
    sample = (ROOT / "utils" / "sample" / "fashion-mnist" / "LICENSE").read_text(encoding="utf-8")
    assert "2017 Zalando SE" in sample and "MIT License" in sample
    section = README[README.index("## Licences") :]
    for said in ("[MIT](LICENSE)", "[CC BY 4.0](LICENSE-CC-BY-4.0.txt)", "Zalando", "(CITATION.cff)"):
        assert said in section


def test_the_citation_is_one_and_of_this_version():
    import utils

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "version", "date-released"} <= citation.keys()
    assert citation["version"] == PROJECT["project"]["version"] == utils.__version__
    assert set(citation["license"]) == {"MIT", "CC-BY-4.0"} and all("name" in author for author in citation["authors"])
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## {citation['version']}, {citation['date-released']}\n" in changes


# --- README and CONTRIBUTING ------------------------------------------------------------------------------------------


def rows(text, heading):
    """The rows of the first table below a heading, as lists of cells."""
    below = text[text.index(f"\n{heading}\n") :]
    table = re.search(r"(?:^\|.*\n)+", below, flags=re.M)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def row_of(lesson, heading):
    found = [row for row in rows(README, heading) if row[0] == lesson.stem[:2]]
    assert len(found) == 1, f"README's table below {heading!r} needs one row for {lesson.name}"
    return found[0]


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_the_readme_gives_each_lessons_times_as_the_lesson_does(lesson):
    row = row_of(lesson, "## To study on your own")
    assert f"(notebooks/{lesson.stem}.ipynb)" in row[1]
    text = lesson.read_text(encoding="utf-8")
    read = re.search(r"It takes\* (\d+) minutes to read; (?:about|under) (\w+) minutes? to run on two CPU cores", text)
    minutes = {"a": 1, "two": 2, "three": 3}[read[2]]
    assert (row[2], row[3]) == (f"{read[1]} min", f"{minutes} min")


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_the_readme_tells_the_lecturer_how_long_each_lesson_is(lesson):
    """Slides: pages, one below another too. Read aloud: the notes, at 130 words a minute."""
    row = row_of(lesson, "## To give a lecture")
    cells = jupytext.read(lesson).cells
    kinds = [cell.metadata.get("slideshow", {}).get("slide_type") for cell in cells]
    prose = [(kind, cell.source) for kind, cell in zip(kinds, cells, strict=True) if cell.cell_type == "markdown"]
    slides = sum(kind in ("slide", "subslide") for kind in kinds)
    aloud = sum(len(source.split()) for kind, source in prose if kind == "notes") / 130
    assert int(row[2]) == slides
    assert abs(int(row[3].split()[0]) - aloud) <= 1.5 and int(row[4].split()[0]) >= 1.9 * aloud


def test_the_readme_shows_the_explorer_and_the_curve_and_serves_three():
    assert re.search(r"!\[[^\]]{20,}\]\(notebooks/pictures/explorer_1280\.png\)", README)
    assert re.search(r"!\[[^\]]{20,}\]\(results/reference/[\w-]+/curve\.svg\)", README)
    headings = re.findall(r"^## (.+)$", README, flags=re.M)
    assert headings[:3] == ["To study on your own", "To give a lecture", "To set homework"]


@pytest.mark.parametrize("text", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_every_command_that_is_named_is_one(text):
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, flags=re.M))
    assert named and named <= TARGETS, named - TARGETS
    for script in re.findall(r"tools[\\/](\w+\.py)", text):
        assert (ROOT / "tools" / script).exists(), script


def test_contributing_walks_a_change_from_edit_to_green_in_under_ten_lines():
    walks = re.findall(r"```bash\n(.*?)```", CONTRIBUTING, flags=re.S)
    assert len(walks) >= 2 and all(len(walk.splitlines()) < 10 for walk in walks)
    for walk in walks:
        assert "make notebooks" in walk and "lint" in walk and "git commit" in walk
    assert "README.md" in walks[0], "whose tables name each lesson"


def test_every_door_in_contributings_table_is_opened_by_something_that_is_there():
    table = rows(CONTRIBUTING, "## What is tested where")
    assert len(table) >= 12
    for door, opener, _when in table:
        for file in re.findall(r"`((?:tests|tools)/\w+\.\w+)`", opener):
            assert (ROOT / file).exists(), (door, file)
    weekly = {opener.split("`")[1].removeprefix("make ") for _, opener, when in table if when == "each week"}
    assert weekly <= TARGETS and all(target in WORKFLOW for target in weekly)


# --- hooks and workflow -----------------------------------------------------------------------------------------------


def test_the_hooks_are_local_and_run_what_make_lint_does():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
    entries = {hook["entry"].partition(" ")[2] for hook in hooks[0]["hooks"]}  # python, python3, py: as it is called
    assert entries == {f"tools/lint.py {check}" for check in lint.CHECKS}
    assert all(hook["language"] == "system" and not hook["pass_filenames"] for hook in hooks[0]["hooks"])


def test_lint_says_what_to_do_and_fails(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(lint, "PYTHON", Path(sys.executable))
    failing, fine = ("-c", "print('line 3 is too long'); raise SystemExit(1)"), ("-c", "")
    monkeypatch.setattr(lint, "CHECKS", {"code": failing, "format": fine})
    monkeypatch.setattr(sys, "argv", ["lint.py"])
    assert lint.main() == 1
    said = capsys.readouterr().out
    assert "code: not as it should be\nline 3 is too long\nTo do: ruff check --fix" in said
    assert "format: as it should be" in said
    monkeypatch.setattr(sys, "argv", ["lint.py", "format"])
    assert lint.main() == 0
    monkeypatch.setattr(sys, "argv", ["lint.py", "nonsense"])
    with pytest.raises(SystemExit):
        lint.main()
    assert "no such check: nonsense; there are code, format" in capsys.readouterr().err


def test_the_workflow_does_what_ci_does_on_three_systems():
    jobs = yaml.safe_load(WORKFLOW)["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    commands = [step["run"] for step in jobs["test"]["steps"] if "run" in step]
    scripts = re.findall(r"tools/\w+\.py", " ".join(commands))
    assert scripts == ["tools/install_chromium.py", "tools/setup_environment.py", "tools/lint.py", "tools/run_tests.py"]
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "make test\n" in ci and "tools/run_tests.py" in MAKEFILE and "tools/install_chromium.py" in ci
    assert not re.search(r"\bmake\b", " ".join(commands)), "Windows has none"
    weekly = jobs["weekly"]["strategy"]["matrix"]["target"]
    assert {target.split()[0] for target in weekly} <= TARGETS


# --- the other doors' tools -------------------------------------------------------------------------------------------


PINS = """numpy==2.0.0
    # via
    #   bigger-and-deeper (pyproject.toml)
    #   scipy
six==1.0
    # via numpy
tqdm==4.66
    # via bigger-and-deeper (pyproject.toml)
"""


def test_the_oldest_and_the_newest_environment_are_asked_for_as_uv_calls_them(monkeypatch, tmp_path):
    asked = []

    def run(*command):
        asked.append(command)
        if "compile" in command:
            file = Path(command[command.index("--output-file") + 1])
            file.parent.mkdir(exist_ok=True)
            file.write_text(PINS, encoding="utf-8")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(other_versions, "run", run)
    monkeypatch.setattr(other_versions, "find_uv", lambda: "uv")
    monkeypatch.setattr(
        other_versions.colab_environment, "find_python", lambda uv, wanted: "python{}.{}".format(*wanted)
    )
    for which, resolution, python in (("oldest", "lowest-direct", "python3.11"), ("newest", "highest", "python3.13")):
        asked.clear()
        assert other_versions.make(which) == Path(f".venv-{which}")
        (compiling,) = (command for command in asked if "compile" in command)
        assert compiling[compiling.index("--resolution") + 1] == resolution and python in compiling


def test_of_compiled_pins_the_direct_ones_are_told():
    assert other_versions.direct(PINS) == ["numpy==2.0.0", "tqdm==4.66"]


@pytest.mark.parametrize(
    ("which", "words", "status", "browser", "kept"),
    [
        ("oldest", [], 0, "chromium", True), ("oldest", [], 1, "chromium", False),
        ("oldest", ["-x"], 0, "chromium", False), ("newest", [], 0, "chromium", False), ("oldest", [], 0, None, False),
    ],
)  # fmt: skip
def test_what_all_tests_were_green_with_is_kept(monkeypatch, tmp_path, which, words, status, browser, kept):
    environment = tmp_path / ".venv"
    environment.mkdir()
    (environment / "requirements.txt").write_text(PINS, encoding="utf-8")
    monkeypatch.setattr(other_versions, "make", lambda which: environment)
    monkeypatch.setattr(other_versions, "KEPT", tmp_path / "oldest.txt")
    monkeypatch.setattr(other_versions.install_chromium, "find_chromium", lambda: browser)
    monkeypatch.setattr(sys, "argv", ["other_versions.py", which, *words])
    done = subprocess.CompletedProcess([], status)
    monkeypatch.setattr(other_versions.subprocess, "run", lambda command, **options: done)
    monkeypatch.chdir(ROOT)
    assert other_versions.main() == status
    assert (tmp_path / "oldest.txt").exists() == kept
    if kept:
        assert "\nnumpy==2.0.0\ntqdm==4.66\n" in (tmp_path / "oldest.txt").read_text(encoding="utf-8")


@pytest.mark.once  # not in the run of `make test-oldest` that will write it
def test_every_lower_bound_is_one_that_was_tested():
    """`make test-oldest` keeps what it was green with; a bound that nobody has tried is only a hope."""
    tested = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "tests" / "oldest.txt").read_text("utf-8"), flags=re.M))
    listed = PROJECT["project"]["dependencies"] + [
        line for group in PROJECT["dependency-groups"].values() for line in group
    ]
    from packaging.requirements import Requirement
    from packaging.version import Version

    for requirement in map(Requirement, listed):
        (lowest,) = (part.version for part in requirement.specifier if part.operator in (">=", "=="))
        assert Version(tested[requirement.name]) == Version(lowest), requirement


def test_of_environment_yml_conda_takes_a_python_and_pip_the_rest():
    python, packages = conda_door.what_is_asked_for((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert (
        python == (3, 12) and "torch==2.11.0" in packages and len(packages) == len(PROJECT["project"]["dependencies"])
    )
    with pytest.raises(ValueError, match=r"python=3\.X and pip alone, got numpy, pip, python=3\.12"):
        conda_door.what_is_asked_for("dependencies: [python=3.12, pip, numpy, {pip: [torch]}]")


def test_of_the_readme_pip_is_given_what_stands_there():
    lines = conda_door.lines_for_pip(README)
    commands = [line.partition("#")[0].strip() for line in lines.splitlines()]
    assert commands == ["pip install -e .", "pip install --no-deps d2l==1.0.3", "pip install scipy requests"]
    with pytest.raises(ValueError, match=r"no lines of bash after \*\*pip"):
        conda_door.lines_for_pip("**pip.** It is easy.\n")


def test_binder_finds_its_files_where_repo2docker_looks():
    """In the root, for there is no folder `binder` or `.binder`. Beside environment.yml it reads no requirements."""
    assert not (ROOT / "binder").exists() and not (ROOT / ".binder").exists()
    assert (ROOT / "environment.yml").exists() and (ROOT / "postBuild").exists()
    assert "jupyterlab" in (ROOT / "environment.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("mounts", [True, False], ids=["by a mount", "by permissions"])
def test_what_runs_elsewhere_really_cannot_write_there(tmp_path, monkeypatch, mounts):
    if os.name != "posix" or (mounts and not elsewhere.own_mounts()):
        pytest.skip("NOT TESTED: a folder that is mounted so that it can't be written, for none can be mounted here.")
    if not mounts:
        if os.geteuid() == 0:
            pytest.skip("NOT TESTED: a folder without permissions, for this is root, who heeds none.")
        monkeypatch.setattr(elsewhere, "own_mounts", lambda: ())
    project, python = tmp_path / elsewhere.NAME, Path(sys.executable)
    project.mkdir()
    (project / "old").write_text("as it was", encoding="utf-8")
    assert not elsewhere.is_read_only(project, (), python) and [*project.iterdir()] == [project / "old"]
    with elsewhere.read_only(project) as prefix:
        assert elsewhere.is_read_only(project, prefix, python)
        change = subprocess.run([*prefix, sys.executable, "-c", "open('old', 'w')"], cwd=project, capture_output=True)
        assert change.returncode == 1 and (project / "old").read_text(encoding="utf-8") == "as it was"
        where = subprocess.run([*prefix, "pwd"], cwd=project, capture_output=True, encoding="utf-8").stdout.strip()
        assert Path(where) == project
    assert not elsewhere.is_read_only(project, (), python), "it can be removed"


def test_a_probe_that_does_not_start_is_no_proof(tmp_path):
    with pytest.raises(RuntimeError, match="doesn't start"):
        elsewhere.is_read_only(tmp_path, ("false",), Path(sys.executable))


def test_the_copy_has_what_the_project_has_and_no_environment(tmp_path):
    elsewhere.copy_project(tmp_path / "copy")
    names = {path.name for path in (tmp_path / "copy").iterdir()}
    assert {"utils", "tests", "pyproject.toml", ".github"} <= names
    assert not {name for name in names if name.startswith((".venv", ".uv"))} and ".git" not in names


@pytest.mark.once
@pytest.mark.skipif(
    os.name == "nt" or not shutil.which("make"), reason="NOT TESTED: make slides, for there is no make here."
)
def test_make_slides_writes_the_slides_and_the_notes_and_skips_the_rest(tmp_path):
    command = ["make", f"PYTHON={sys.executable}", "slides", "NAME=00_start_here", f"TO={tmp_path}"]
    alone = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}  # `make test ARGS=…` hands it on
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=alone)
    page = (tmp_path / "00_start_here.slides.html").read_text(encoding="utf-8")
    assert "What can your device do?" in page and '<aside class="notes">' in page and "width: 1500" in page
    assert "google.colab" not in page, "what is to be skipped"


def test_every_test_that_is_too_slow_for_every_day_is_there_and_most_are_quick():
    slow = (ROOT / "tests" / "slow.txt").read_text(encoding="utf-8").splitlines()[1:]
    sources = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py")}
    for line in slow:
        file, _, name = line.partition("::")
        assert f"def {name}(" in sources.get(Path(file).name, ""), f"{line} is gone: run the tests with --keep-slow"
    tests = sum(len(re.findall(r"^def test_", source, flags=re.M)) for source in sources.values())
    assert len(slow) < 0.35 * tests and '-m "not slow"' in MAKEFILE


def test_what_is_slow_is_measured(tmp_path):
    """In a folder of its own, whose tests have a budget of half a second together."""
    (tmp_path / "tests").mkdir()
    conftest = (ROOT / "conftest.py").read_text(encoding="utf-8")
    (tmp_path / "conftest.py").write_text(conftest.replace("BUDGET = 75 ", "BUDGET = 0.5 "), encoding="utf-8")
    (tmp_path / "tests" / "test_it.py").write_text(
        "import time, pytest\n@pytest.mark.parametrize('n', [1, 2])\ndef test_slow(n): time.sleep(0.4)\n"
        "def test_quick(): pass\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    subprocess.run([*command, "--keep-slow"], cwd=tmp_path, check=True, capture_output=True)
    kept = (tmp_path / "tests" / "slow.txt").read_text(encoding="utf-8").splitlines()
    assert kept[1:] == ["tests/test_it.py::test_slow"]
    (tmp_path / "tests" / "test_other.py").write_text("def test_other(): pass\n", encoding="utf-8")
    for words, missed in (("tests/test_it.py", "of test_other.py there is none"), ("-k slow", "2 are left out")):
        some = subprocess.run(
            [*command, "--keep-slow", *words.split()], cwd=tmp_path, capture_output=True, encoding="utf-8"
        )
        assert some.returncode == pytest.ExitCode.USAGE_ERROR and missed in some.stderr + some.stdout
    assert (tmp_path / "tests" / "slow.txt").read_text(encoding="utf-8").splitlines() == kept
    (tmp_path / "tests" / "test_other.py").unlink()
    left = subprocess.run([*command, "-m", "not slow"], cwd=tmp_path, check=True, capture_output=True, encoding="utf-8")
    assert "1 passed, 2 deselected" in left.stdout
