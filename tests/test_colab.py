"""tests/colab.txt and tools/colab_environment.py: Colab's versions, exactly, or a loud end."""

import importlib.util
import os
import re
import signal
import sys
import threading
import time
import tomllib
from importlib.metadata import version
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "tests" / "colab.txt").read_text(encoding="utf-8")
PINS = dict(re.findall(r"^([\w-]+)==(\S+)$", TEXT, flags=re.M))
IS_COLAB_LIKE = Path(sys.prefix).name == ".venv-colab"

spec = importlib.util.spec_from_file_location("colab_environment", ROOT / "tools" / "colab_environment.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


def test_the_pins_say_when_and_where_they_were_taken_and_how_to_renew_them():
    assert re.search(r"^# Date: +2\d{3}-\d\d-\d\d", TEXT, flags=re.M) and re.search(r"^# Origin: \S", TEXT, flags=re.M)
    assert "# To renew: " in TEXT and "# python 3.13" in TEXT and tool.VERSION == (3, 13)


def test_the_pins_lie_within_the_projects_ranges():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ranges = {r.name: r.specifier for r in map(Requirement, project["dependencies"])}
    assert {"torch", "torchvision", "numpy", "pandas", "matplotlib", "ipywidgets"} <= PINS.keys() & ranges.keys()
    for name in PINS.keys() & ranges.keys() - {"ipywidgets"}:  # 7 is Colab's alone: JupyterLab 4 doesn't draw it
        assert PINS[name] in ranges[name], name
    assert PINS["ipywidgets"] == "7.7.1"
    assert "3.13.0" in Requirement(f"python{project['requires-python']}").specifier


def test_torch_is_the_same_in_both_environments():
    requirements = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    for name in ("torch", "torchvision"):
        assert f"\n{name}=={PINS[name]} " in requirements


@pytest.mark.skipif(not IS_COLAB_LIKE, reason="holds in the environment with Colab's versions, where it is run too")
def test_this_environment_has_exactly_those_versions():
    found = {name: version(name).split("+")[0] for name in PINS}
    assert found == PINS and sys.version_info[:2] == (3, 13)


def test_a_notebooks_kernel_is_of_the_environment_that_runs_the_test():
    """Else nbval would test another environment than it says."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import sys; print(sys.prefix)")])
    NotebookClient(notebook, kernel_name="python3").execute()
    assert notebook.cells[0].outputs[0].text.strip() == sys.prefix


# --- which Python -----------------------------------------------------------------------------------------------------


def python(folder, says):
    """A program that says so when it is asked for its version, as pyenv's shims may say anything."""
    folder.mkdir(parents=True)
    file = folder / "python3.13"
    file.write_text(f"#!/bin/sh\n{says}\n", encoding="utf-8")
    file.chmod(0o755)
    return file


posix = pytest.mark.skipif(os.name != "posix", reason="needs a shell")
WORKS, OTHER, FAILS = "echo 3 13", "echo 3 12", "echo pyenv: no such command >&2; exit 127"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """No Python 3.13 anywhere, until one is put there."""
    monkeypatch.setattr(tool.sys, "executable", str(python(tmp_path / "own", OTHER)))
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setattr(tool.shutil, "which", lambda name: str(p) if (p := tmp_path / "path" / name).exists() else None)
    return tmp_path


@posix
def test_the_paths_python_comes_before_pyenvs_and_the_latest_of_those_first(machine):
    for release in ("3.13.2", "3.13.10"):
        kept = python(machine / "pyenv" / "versions" / release / "bin", WORKS)
        kept.rename(kept.with_name("python"))
    assert tool.find_python("uv") == str(machine / "pyenv" / "versions" / "3.13.10" / "bin" / "python")
    on_path = python(machine / "path", WORKS)
    assert tool.find_python("uv") == str(on_path)


@posix
@pytest.mark.parametrize("says", [OTHER, FAILS, "echo nonsense", "exit 0"])
def test_a_python_that_is_another_or_does_not_run_is_passed_over(machine, says):
    python(machine / "path", says)
    kept = python(machine / "pyenv" / "versions" / "3.13.0" / "bin", WORKS)
    kept.rename(kept.with_name("python"))
    assert tool.find_python("uv") == str(kept.with_name("python"))


@posix
def test_where_there_is_none_uv_is_asked_for_one(machine):
    theirs = python(machine / "uvs", WORKS)
    uv = machine / "uv"
    uv.write_text(f"#!/bin/sh\n[ $2 = find ] && echo {theirs}\n", encoding="utf-8")
    uv.chmod(0o755)
    assert tool.find_python(str(uv)) == str(theirs)


@posix
def test_where_none_is_to_be_had_it_ends_loudly_with_what_was_tried(machine):
    python(machine / "path", FAILS)
    uv = machine / "uv"
    uv.write_text("#!/bin/sh\necho error: no network >&2; exit 2\n", encoding="utf-8")
    uv.chmod(0o755)
    with pytest.raises(SystemExit) as stopped:
        tool.find_python(str(uv))
    message = stopped.value.code
    assert isinstance(message, str), "a text is printed, and the exit status is 1"
    tried = ("this Python: 3.12", "python3.13 on the PATH: none that runs", "uv python install 3.13: error: no network")
    for said in (*tried, "pyenv install 3.13", "python -m pytest"):
        assert said in message


def test_a_wrong_version_ends_it(monkeypatch):
    found = [*PINS.values()]
    found[3] = "0.1"
    monkeypatch.setattr(tool.subprocess, "check_output", lambda *a, **k: " ".join(found))
    monkeypatch.chdir(ROOT)
    name = [*PINS][3]
    with pytest.raises(SystemExit, match=f"is not what tests/colab.txt says: {name} is 0.1, expected {PINS[name]}"):
        tool.check()


def test_it_is_made_once_and_anew_when_the_pins_change(tmp_path, monkeypatch):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "colab.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "requirements.txt").write_bytes((ROOT / "requirements.txt").read_bytes())
    monkeypatch.chdir(tmp_path)
    done = []

    def run(*command):
        done.append(command[1:3])
        if command[1] == "venv":
            Path(command[-1]).mkdir()

    monkeypatch.setattr(tool, "run", run)
    monkeypatch.setattr(tool, "find_uv", lambda: "uv")
    monkeypatch.setattr(tool, "find_python", lambda uv: "python3.13")
    monkeypatch.setattr(tool, "check", lambda: done.append("checked"))
    for _ in range(2):
        tool.make()
    assert done == [("venv", "--quiet"), ("pip", "install"), ("pip", "install"), ("-m", "pip"), "checked"]
    (tmp_path / "tests" / "colab.txt").write_text(TEXT + "six==1.17.0\n", encoding="utf-8")
    tool.make()
    assert len(done) == 10


# --- make test --------------------------------------------------------------------------------------------------------


@pytest.fixture
def run_tests(monkeypatch, tmp_path):
    """tools/run_tests.py, with programs in place of every pytest that say who they are and what they were told."""
    spec = importlib.util.spec_from_file_location("run_tests", ROOT / "tools" / "run_tests.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.colab_environment, "make", lambda: None)
    monkeypatch.chdir(ROOT)

    def run(ordinary, colab_like, *words, notebook=0):
        code = (
            "import os, sys; print(*sys.argv[1:], 'threads', os.environ['OMP_NUM_THREADS']); "
            "sys.exit({} if sys.argv[-1].endswith('03_vgg_blocks.ipynb') else {})"
        )
        for name, status in (("ORDINARY", ordinary), ("COLAB_LIKE", colab_like)):
            monkeypatch.setattr(module, name, (sys.executable, "-c", code.format(notebook, status), name.lower()))
        monkeypatch.setattr(sys, "argv", ["run_tests.py", *words])
        return module.main()

    run.module = module
    return run


@pytest.mark.parametrize(
    ("ordinary", "colab_like", "status"), [(0, 0, 0), (1, 0, 1), (0, 2, 2), (1, 2, 1), (0, 5, 0), (5, 5, 5)]
)
def test_make_test_is_green_only_if_both_environments_are(run_tests, ordinary, colab_like, status, capfd):
    assert run_tests(ordinary, colab_like, "-x", "tests") == status
    printed = capfd.readouterr().out
    assert printed.index("ordinary -x tests") < printed.index("with Colab's versions") < printed.index("colab_like -m")
    assert re.search(r"^colab_like -m not once and .* -x tests threads", printed, flags=re.M)
    last = printed.splitlines()[-1]
    colab_like %= 5  # of what was asked for nothing is run there
    assert (last == "All 2 runs are green.") == (not status) and last.startswith(("Not green: ", "All "))
    assert ("notebooks (exit status" in last, "with Colab's" in last) == (bool(ordinary), bool(colab_like))


NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("status", [0, 1])
def test_without_words_the_notebooks_are_runs_of_their_own_and_each_counts(run_tests, status, capfd):
    assert len(NOTEBOOKS) >= 6 and run_tests(0, 0, notebook=status) == status
    printed = capfd.readouterr().out
    ran = [line.split() for line in printed.splitlines() if line.startswith(("ordinary ", "colab_like "))]
    assert ran[0][:3] == ["ordinary", "-o", "testpaths=tests"] and ran[1][:2] == ["colab_like", "-m"]
    assert sorted(words[3] for words in ran[2:]) == [f"notebooks/{name}" for name in NOTEBOOKS]
    bad = "Not green: notebooks/03_vgg_blocks.ipynb (exit status 1)."
    assert printed.splitlines()[-1] == (bad if status else f"All {2 + len(NOTEBOOKS)} runs are green.")


@pytest.mark.skipif(os.name != "posix", reason="on Windows, Ctrl-C goes to each program by itself")
def test_two_things_run_at_a_time_and_who_stops_them_stops_all(run_tests, monkeypatch, tmp_path):
    """Ctrl-C comes while two run, each of which would last a minute; the third never begins."""
    module = run_tests.module
    code = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"
    runs = {name: (sys.executable, "-c", code, str(tmp_path / name)) for name in ("one", "two", "three")}
    started = []
    popen = module.subprocess.Popen
    monkeypatch.setattr(module.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])

    def ctrl_c(*signs):
        until = time.monotonic() + 30
        while not all(path.exists() for path in signs) and time.monotonic() < until:
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=ctrl_c, args=(tmp_path / "one", tmp_path / "two"), daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        module.run_all(runs)
    assert len(started) == 2 and all(process.wait(10) for process in started) and not (tmp_path / "three").exists()


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (8, 4)])
def test_each_has_its_share_of_the_cores_unless_you_say_otherwise(run_tests, monkeypatch, capfd, cores, threads):
    monkeypatch.setattr(run_tests.module, "cpu_cores", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    run_tests(0, 0)
    assert capfd.readouterr().out.count(f"threads {threads}\n") == 2 + len(NOTEBOOKS)
    assert "OMP_NUM_THREADS" not in os.environ
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    run_tests(0, 0)
    assert capfd.readouterr().out.count("threads 3\n") == 2 + len(NOTEBOOKS)


def test_both_run_pytest_and_the_second_runs_the_notebooks_as_colab_would(run_tests):
    tool_, makefile = run_tests.module, (ROOT / "Makefile").read_text(encoding="utf-8")
    assert tool_.ORDINARY == (sys.executable, "-m", "pytest")
    assert tool_.COLAB_LIKE[0].startswith(".venv-colab") and tool_.COLAB_LIKE[1:3] == ("-m", "pytest")
    assert "addopts=--import-mode=importlib --nbval-lax" in tool_.COLAB_LIKE
    assert "testpaths=tests" in tool_.COLAB_LIKE, "tests/test_colab_door.py runs them"
    assert "tools/run_tests.py $(ARGS)" in makefile


MARKED = r"^pytestmark = [^\n]*mark\.torch\b"
ABOUT_TORCH = {
    p.name for p in (ROOT / "tests").glob("test_*.py") if re.search(MARKED, p.read_text(encoding="utf-8"), flags=re.M)
}


def test_some_files_are_about_torch_alone():
    assert ABOUT_TORCH == {"test_models.py", "test_throughput.py", "test_training.py"}


def test_what_is_about_torch_alone_is_left_out_only_while_colab_has_the_same(run_tests, monkeypatch, tmp_path):
    tool_, pins = run_tests.module, re.findall(r"^torch\w*==\S+", TEXT, flags=re.M)
    assert len(pins) == 2
    monkeypatch.chdir(tmp_path)
    Path("tests").mkdir()
    (tmp_path / "tests" / "colab.txt").write_text(TEXT, encoding="utf-8")
    for text, same in (("\n".join(pins) + "\n", True), (f"{pins[0]}.post1\n{pins[1]}\n", False), (pins[0], False)):
        Path("requirements.txt").write_text(f"numpy==2.1.3\n{text}", encoding="utf-8")
        command = [*tool_.planned(["-x"]).values()][1]
        marks = "not once and not system and not torch" if same else "not once and not system"
        assert command[-3:] == ("-m", marks, "-x")
        assert command[:-3] == tool_.COLAB_LIKE


@pytest.mark.parametrize("name", sorted(ABOUT_TORCH))
def test_what_is_about_torch_alone_says_nothing_of_other_packages(name):
    """Of those whose versions Colab has otherwise; what a whole file is marked for is in `pytestmark`."""
    others = r"\b(numpy|pandas|matplotlib|ipywidgets|IPython|utils\.(plots|profiling|results|widgets))\b"
    assert not re.search(others, (ROOT / "tests" / name).read_text(encoding="utf-8"))
