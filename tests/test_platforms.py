"""What would fail on Windows or macOS, looked for on any machine: in the code, and with what they lack taken away."""

import ast
import os
import re
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path, PureWindowsPath

import pytest
from for_processes import keep, work

from utils import workers
from utils.words import speak_anywhere
from utils.workers import run_in_workers

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = [*sorted((ROOT / "utils").rglob("*.py")), *sorted((ROOT / "tools").glob("*.py"))]
TESTS = [ROOT / "conftest.py", *sorted((ROOT / "tests").glob("*.py"))]


def calls_in(file):
    """Each call in a file: what is called, in words (`os.fork`, `.read_text`), and the call."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            yield called(node.func), node


def called(func):
    match func:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Name(id=owner), attr=name):
            return f"{owner}.{name}"
        case ast.Attribute(attr=name):
            return f".{name}"
    return ""


def at(file, node):
    return f"{file.relative_to(ROOT).as_posix()}:{node.lineno}"


# --- processes --------------------------------------------------------------------------------------------------------


def forks(name, call):
    """Windows has no fork, and a Mac's libraries don't live through one."""
    first = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else None
    match name.rpartition(".")[2]:
        case "fork" | "forkpty":
            return True
        case "get_context" | "set_start_method":
            return first != "spawn"
        case "Process" | "Pool" | "ProcessPoolExecutor":  # of a module, not of a context, which was asked for above
            return name.split(".")[0] in ("multiprocessing", "concurrent", "mp")
    return False


def test_no_process_is_forked():
    assert [at(file, call) for file in PROGRAM for name, call in calls_in(file) if forks(name, call)] == []
    imported = {
        alias.name
        for file in PROGRAM
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("multiprocessing", "concurrent")
        for alias in node.names
    }
    assert imported.isdisjoint({"Process", "Pool", "ProcessPoolExecutor"})


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("os.fork()", True),
        ("multiprocessing.Process(target=f)", True),
        ("multiprocessing.Pool(2)", True),
        ("Pool('max', 3, 2)", False),
        ("torch.multiprocessing.get_context('fork')", True),
        ("get_context()", True),
        ("get_context('spawn')", False),
        ("self.context.Process(target=f)", False),
        ("psutil.Process(3)", False),
    ],
)
def test_a_fork_would_be_found(code, found):
    call = ast.parse(code).body[0].value
    assert forks(called(call.func), call) is found


@pytest.mark.skipif(os.name != "posix", reason="the end of a pipe is doubled as POSIX has it")
def test_a_worker_that_dies_is_noticed_though_nothing_closes_its_pipe(monkeypatch):
    """On Windows that is so of one that dies while it starts."""
    held, usual = [], workers._Pool.__init__

    def with_ends_held(pool, *arguments):
        usual(pool, *arguments)
        pipe = pool.context.Pipe

        def both():
            ours, theirs = pipe()
            held.append(Connection(os.dup(theirs.fileno())))
            return ours, theirs

        pool.context = type("Context", (), {"Pipe": staticmethod(both), "Process": pool.context.Process})

    monkeypatch.setattr(workers._Pool, "__init__", with_ends_held)
    try:
        done = dict(run_in_workers(work, [("exit", 3)], 1, set_up=keep))
    finally:
        for end in held:
            end.close()
    assert "exit status 3" in str(done[0])


# --- files ------------------------------------------------------------------------------------------------------------

ENCODING_AT = {".read_text": 0, ".write_text": 1, "open": 3}  # which of the arguments it is


def opens_text_in_any_encoding(name, call):
    """Without an encoding Python takes the system's: on Windows, not UTF-8."""
    if name not in ENCODING_AT:
        name = f".{name.rpartition('.')[2]}"
    if name not in ENCODING_AT or any(keyword.arg in ("encoding", None) for keyword in call.keywords):
        return False
    if name == "open":
        modes = [*call.args[1:2], *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
        if modes and (not isinstance(modes[0], ast.Constant) or "b" in modes[0].value):
            return False
    return len(call.args) <= ENCODING_AT[name]


def test_no_text_is_read_or_written_in_whatever_encoding_the_system_has():
    found = {at(file, c) for file in (*PROGRAM, *TESTS) for n, c in calls_in(file) if opens_text_in_any_encoding(n, c)}
    assert found == set()


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("path.read_text()", True),
        ("(folder / 'a').write_text(words)", True),
        ("open('a')", True),
        ("open('a', 'w')", True),
        ("open('a', mode='r')", True),
        ("path.read_text('utf-8')", False),
        ("path.write_text(words, encoding='utf-8')", False),
        ("path.write_text(words, 'utf-8')", False),
        ("open('a', 'rb')", False),
        ("open('a', encoding='utf-8')", False),
        ("path.read_bytes()", False),
    ],
)
def test_a_text_without_encoding_would_be_found(code, found):
    call = ast.parse(code).body[0].value
    assert opens_text_in_any_encoding(called(call.func), call) is found


DEVICES = r"(?i)(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?"


def is_valid_on_windows(path):
    return not any(
        re.search(r'[<>:"|?*\\\x00-\x1f]', part) or part.endswith((".", " ")) or re.fullmatch(DEVICES, part)
        for part in path.split("/")
    )


def names_that_git_keeps():
    run = subprocess.run(
        ["git", "-c", "core.quotePath=false", "ls-files"], cwd=ROOT, capture_output=True, encoding="utf-8"
    )
    if run.returncode:
        pytest.skip("NOT TESTED: the names of files, for this is no checkout of git's")
    return run.stdout.splitlines()


def test_every_file_has_a_name_that_windows_takes():
    names = names_that_git_keeps()
    assert "utils/__init__.py" in names
    assert [name for name in names if not is_valid_on_windows(name)] == []
    assert len({name.lower() for name in names}) == len(names), "two differ in their case alone"


@pytest.mark.parametrize("name", ["a:b", "results/what?.svg", "nul", "results/CON.jsonl", "end.", "com1.txt", "a\\b"])
def test_a_name_that_windows_refuses_would_be_found(name):
    assert not is_valid_on_windows(name) and is_valid_on_windows("results/console.jsonl")


def test_what_is_named_after_a_device_or_an_experiment_has_a_valid_name(monkeypatch):
    from utils import experiments
    from utils.catalog import EXPERIMENTS

    assert all(is_valid_on_windows(f"{name}.jsonl") for name in EXPERIMENTS)
    for device in ('NVIDIA "H100": 80GB/HBM3?', "Intel(R) Xeon(R) @ 2.20GHz, 2 cores", "Apple M3, 8 cores, Apple GPU"):
        monkeypatch.setattr(experiments, "device_name", lambda _, name=device: name)
        assert is_valid_on_windows(PureWindowsPath(experiments.reference_folder("cpu").name).as_posix())


# --- what other systems lack ------------------------------------------------------------------------------------------

AS_ON_WINDOWS = """
import importlib, os, signal, sys
# What isn't ours knows where it is, and has been imported by then.
import utils, pandas, filelock, IPython, ipywidgets, matplotlib.pyplot, torch.multiprocessing, torchvision, tqdm.auto
import multiprocessing.pool, multiprocessing.reduction, torch._dynamo
for owner, names in ((os, ("sched_getaffinity", "fork", "geteuid", "getuid", "killpg", "getpgid", "setsid")),
                     (signal, ("pthread_sigmask", "SIGKILL", "SIGHUP", "SIGALRM", "setitimer", "alarm"))):
    for name in names:
        if hasattr(owner, name):
            delattr(owner, name)
class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name in ("resource", "fcntl", "pwd", "grp", "termios"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
for name in ("resource", "fcntl", "pwd", "grp", "termios"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Lacking())
for name in utils._MODULES:
    importlib.import_module(f"utils.{name}")
from utils.cores import cpu_cores
from utils.device import describe
from utils.workers import interrupts_held
with interrupts_held():
    assert cpu_cores() >= 1
print(describe())
"""


def run(*arguments, **environment):
    own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONIOENCODING", "PYTHONUTF8")}
    return subprocess.run([sys.executable, *arguments], env=clean | own, cwd=ROOT, capture_output=True, timeout=120)


def test_everything_is_imported_without_what_windows_lacks():
    done = run("-c", AS_ON_WINDOWS)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    assert done.stdout.startswith(b"Running on ")


# --- what is printed --------------------------------------------------------------------------------------------------

OLD_CODE_PAGE = {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}  # of a pipe, on a Windows of Western Europe


def test_a_character_that_the_output_lacks_becomes_a_question_mark():
    say = "print('→ ─ ≥ ⅛ × –')"
    refused = run("-c", say, **OLD_CODE_PAGE)
    assert b"UnicodeEncodeError" in refused.stderr
    done = run("-c", f"from utils.words import speak_anywhere; speak_anywhere(); {say}", **OLD_CODE_PAGE)
    assert (done.stdout.rstrip(), done.stderr) == ("? ? ? ? × –".encode("cp1252"), b"")


def test_a_notebooks_output_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(sys, "stdout", object())
    speak_anywhere()


EACH_PROGRAM = """
import runpy, sys
for name in sys.argv[1:]:
    sys.stdout.reconfigure(errors="strict")  # as it is before a program speaks
    sys.argv = [name, "--help"]
    try:
        runpy.run_path(f"tools/{name}.py", run_name="__main__")
    except SystemExit as ended:
        assert not ended.code, name
    print("→", name)
sys.stdout.reconfigure(errors="strict")
runpy.run_path("utils/device.py", run_name="__main__")
from utils import data
data._from_sample(print)
"""


def test_programs_speak_into_an_old_code_page():
    names = ("curve", "experiments", "tune", "build_notebooks")
    sys_path = os.pathsep.join((str(ROOT), str(ROOT / "tools")))
    done = run("-c", EACH_PROGRAM, *names, **OLD_CODE_PAGE, PYTHONPATH=sys_path)
    said = done.stdout.decode("cp1252")
    assert done.returncode == 0 and not done.stderr, done.stderr.decode("cp1252")
    assert said.count("usage: ") == len(names) and "Running on " in said and "THIS IS A SAMPLE" in said


TOOLS = sorted((ROOT / "tools").glob("*.py"))
BEFORE_THE_ENVIRONMENT = ("setup_environment", "colab_environment", "lock")  # any Python runs them, an old one too


@pytest.mark.parametrize("file", TOOLS, ids=lambda file: file.stem)
def test_each_program_sees_to_that_first_or_says_nothing_that_an_old_code_page_lacks(file):
    tree = ast.parse(file.read_text("utf-8"))
    if file.stem in BEFORE_THE_ENVIRONMENT:
        words = [
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        "".join(words).encode("cp1252")
        return
    (main,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"]
    assert ast.unparse(main.body[0]) == "speak_anywhere()"


@pytest.mark.parametrize("file", TOOLS, ids=lambda file: file.stem)
def test_each_program_can_be_imported_by_the_processes_that_it_starts(file):
    """A spawned process imports the program that spawned it; without the guard it would run it again."""
    last = ast.parse(file.read_text("utf-8")).body[-1]
    assert isinstance(last, ast.If) and ast.unparse(last.test) == "__name__ == '__main__'"


# What a path of POSIX is for here, each where it need not be there.
POSIX_PATHS = {
    "utils/cores.py": {"/proc/self/cgroup", "/sys/fs/cgroup"},  # a container's share of the cores
    "utils/data.py": {"/usr/share/datasets/fashion-mnist"},  # Debian's package
    "utils/device.py": {"/proc/cpuinfo", "/usr/sbin/sysctl"},  # a processor's name on Linux, on a Mac
    "tools/install_chromium.py": {
        "/etc/os-release",  # is it Debian?
        "/Applications/Chromium.app/Contents/MacOS/Chromium",
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    },
}


def test_no_path_of_posix_is_used_but_where_it_need_not_be_there():
    found = {}
    for file in PROGRAM:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.match(r"/\w+/\S", node.value):
                found.setdefault(file.relative_to(ROOT).as_posix(), set()).add(node.value)
    assert found == POSIX_PATHS
