"""What tests have done in processes of their own, which import it by name; a test's own file may have none there."""

import contextlib
import os
import signal
from pathlib import Path

from utils import experiments

_kept = {}


def keep(*arguments):
    _kept["arguments"] = arguments


def work(task, tell):
    """What a task asks for; the answers say which process gave them."""
    kind, value = task
    if kind == "square":
        tell(("begun", value))
        return value**2, os.getpid()
    if kind == "raise":
        raise KeyError(value)
    if kind == "write":
        _kept["arguments"][0][value] = 1.0
        return None
    if kind == "exit":
        os._exit(value)
    if kind == "die once":
        die_once(value)
        return "at the second attempt"
    raise AssertionError(kind)


def fail():
    raise OSError("nothing can be set up")


def dies_after_the_first(folder, times):
    """The first process starts well, the next `times` are killed while they start, those after them start well."""
    for number in range(100):
        with contextlib.suppress(FileExistsError):
            Path(folder, f"start {number}").touch(exist_ok=False)
            break
    if 1 <= number <= times:
        os.kill(os.getpid(), signal.SIGKILL)


def die_once(flag):
    """The first process to get here is killed, as if memory had run out; `flag`: the file that says that it was."""
    with contextlib.suppress(FileExistsError):
        Path(flag).touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGKILL)


# --- in place of experiments._train_in_worker -------------------------------------------------------------------------


def killed_once(run, tell):
    die_once(os.environ["KILLED_ONCE"])
    return experiments._train_in_worker(run, tell)


def killed_with_large(run, tell):
    """Who trains the larger of the two networks is killed, each time."""
    if run.architecture.convs[0].out_channels == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return experiments._train_in_worker(run, tell)


def broken(run, tell):
    raise LookupError("a bug")
