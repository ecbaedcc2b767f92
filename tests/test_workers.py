"""utils/workers.py: every task is done once, those whose process dies once more, and no process is left."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
from for_processes import dies_after_the_first, fail, keep, work

from utils.workers import WorkerDied, interrupts_held, run_in_workers

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parent.parent
posix = pytest.mark.skipif(os.name != "posix", reason="needs signals")


def outcomes(tasks, workers=2, set_up=keep, **options):
    found = list(run_in_workers(work, tasks, workers, set_up=set_up, **options))
    assert sorted(i for i, _ in found) == list(range(len(tasks))), "each task once"
    assert not children(), "no process is left"
    return dict(found)


def children():
    return [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


def test_two_processes_do_all_tasks_and_tell_how_it_goes():
    told = []
    done = outcomes([("square", n) for n in range(30)], told=lambda i, message: told.append((i, message)))
    assert [done[n][0] for n in range(30)] == [n**2 for n in range(30)]
    assert sorted(told) == [(n, ("begun", n)) for n in range(30)]
    assert 1 <= len({process for _, process in done.values()}) <= 2 and os.getpid() not in {p for _, p in done.values()}


def test_no_more_processes_than_tasks_and_none_for_none():
    assert len({process for _, process in outcomes([("square", 3)], workers=5).values()}) == 1
    assert outcomes([]) == {}


def test_tensors_share_memory():
    numbers = torch.zeros(4)
    outcomes([("write", n) for n in range(4)], arguments=(numbers,))
    assert numbers.tolist() == [1.0] * 4


def test_an_exception_is_given_back_with_where_it_was_raised_and_the_process_goes_on():
    done = outcomes([("square", 2), ("raise", "x"), ("square", 3)], workers=1)
    assert isinstance(done[1], KeyError) and done[1].args == ("x",) and "in work" in str(done[1].__cause__)
    assert done[0][1] == done[2][1], "the same process"


@posix
def test_a_process_that_is_killed_is_replaced_and_its_task_tried_once_more(tmp_path):
    retried = []
    tasks = [("die once", str(tmp_path / "flag")), ("square", 4)]
    done = outcomes(tasks, workers=1, retried=lambda i, why: retried.append((i, why)))
    assert done[0] == "at the second attempt" and done[1][0] == 16
    assert retried == [(0, "killed by signal 9")]


def test_a_task_whose_process_dies_twice_is_given_up_and_the_others_are_done():
    retried = []
    tasks = [("exit", 7), ("square", 4), ("exit", 0), ("square", 5)]
    done = outcomes(tasks, retried=lambda i, why: retried.append((i, why)))
    assert done[1][0] == 16 and done[3][0] == 25
    for i, status in ((0, 7), (2, 0)):
        assert isinstance(done[i], WorkerDied) and str(done[i]) == f"its process died 2 times (exit status {status})"
    assert sorted(retried) == [(0, "exit status 7"), (2, "exit status 0")]


def test_a_process_that_dies_while_it_starts_is_an_error_with_advice(capfd):
    with pytest.raises(RuntimeError, match=r"died while it started \(exit status 1\)(?s:.)*workers=1(?s:.)*__main__"):
        list(run_in_workers(work, [("square", 1)], 1, set_up=fail))
    assert "nothing can be set up" in capfd.readouterr().err and not children()


def test_who_stops_listening_ends_the_processes():
    running = run_in_workers(work, [("square", n) for n in range(100)], 2, set_up=keep)
    next(running)
    assert len(children()) == 2
    running.close()
    assert not children()


@posix
@pytest.mark.parametrize("times", [1, 2])
def test_a_replacement_that_dies_while_it_starts_is_replaced_too(tmp_path, times):
    tasks = [("die once", str(tmp_path / "flag")), *(("square", n) for n in range(4))]
    retried = []
    done = outcomes(
        tasks, workers=1, set_up=dies_after_the_first, arguments=(str(tmp_path), times),
        retried=lambda i, why: retried.append(i),
    )  # fmt: skip
    assert done[0] == "at the second attempt" and [done[n + 1][0] for n in range(4)] == [0, 1, 4, 9]
    assert retried == [0] and len([*tmp_path.glob("start *")]) == 2 + times


@posix
def test_three_in_a_row_that_die_while_they_start_are_an_error(tmp_path):
    running = run_in_workers(
        work, [("die once", str(tmp_path / "flag")), ("square", 2)], 1,
        set_up=dies_after_the_first, arguments=(str(tmp_path), 3),
    )  # fmt: skip
    with pytest.raises(RuntimeError, match="died while it started"):
        list(running)
    assert len([*tmp_path.glob("start *")]) == 4 and not children()


SCRIPT = """
from utils.workers import run_in_workers
from for_processes import keep, work

print(list(run_in_workers(work, [("square", 2)], 1, set_up=keep)))
"""


def test_a_script_without_its_guard_is_told_so(tmp_path):
    """Python's own message says what happened, ours what to do; and no process starts others for ever."""
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    run = subprocess.run(
        [sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=120, env=environment
    )
    assert run.returncode == 1 and 'doesn\'t stand under `if __name__ == "__main__":`' in run.stderr
    time.sleep(0.2)
    mine = [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])]
    assert mine == []


@posix
def test_ctrl_c_waits_while_a_process_is_started():
    """Also if another thread takes the signal: the one that is started before it is blocked can."""
    begun, heard, reached = threading.Event(), threading.Event(), []

    def press():
        begun.wait()
        signal.raise_signal(signal.SIGINT)  # to this thread; Python tells the main one
        heard.set()

    thread = threading.Thread(target=press)
    thread.start()
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interrupts_held():
        begun.set()
        heard.wait()
        code = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
        reached.append(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
    thread.join()
    assert reached == ["True\n"], "all of it was done, and what was started doesn't hear Ctrl-C"
    assert signal.getsignal(signal.SIGINT) is handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
