"""Processes that are spawned once, kept for many tasks, replaced when they die, and gone when the work ends.

`concurrent.futures` would do, but for one thing: there, one process that dies (memory ran out, someone killed it) takes
all the others and their work with it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.pool import ExceptionWithTraceback
from multiprocessing.process import BaseProcess
from typing import Any

import torch.multiprocessing
from tqdm import tqdm

ATTEMPTS = 2  # at a task whose process dies: once more, then it is given up
STILLBORN = 3  # processes in a row that die while they start, where others have started: then there is no point
EVERY = 0.3  # seconds between two looks while nothing is heard

Tell = Callable[[Any], None]


def check_not_imported_by_worker() -> None:
    """RuntimeError where a process that is being started imports the script that starts it: it would start others."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing itself asks
        raise RuntimeError('the call must stand under `if __name__ == "__main__":`, as the processes import the script')


class WorkerDied(RuntimeError):
    """The processes that were at this task died, each time that it was tried."""


def run_in_workers(
    function: Callable[[Any, Tell], Any],
    tasks: Sequence[Any],
    workers: int,
    *,
    set_up: Callable[..., None],
    arguments: tuple[Any, ...] = (),
    told: Callable[[int, Any], None] = lambda i, message: None,
    retried: Callable[[int, str], None] = lambda i, why: None,
) -> Iterator[tuple[int, Any]]:
    """`function(task, tell)` for each task, in `workers` processes: (its number, what it gave) as they finish.

    What it gave is an exception if it raised one, WorkerDied if its process died twice. set_up(*arguments) is called
    once in each process; tensors among the arguments share memory. told(i, message): called here, with what task i
    says by `tell`. retried(i, why): called here when a task is begun again, because its process died.

    `function` and `set_up` must be importable. Whoever closes the iterator ends the processes, at whatever they are.
    Raises RuntimeError if a process dies while it starts and none has ever started, or three in a row do: the next one
    would too.
    """
    pool = _Pool(function, set_up, arguments)
    waiting, attempts = deque(range(len(tasks))), [0] * len(tasks)
    try:
        while waiting or pool.busy:
            while len(pool.workers) < min(workers, len(pool.busy) + len(waiting)):
                pool.start()
            for worker in pool.idle[: len(waiting)]:
                i = waiting.popleft()
                attempts[i] += 1
                pool.give(worker, i, tasks[i])
            for i, kind, content in pool.listen():
                if kind == "told":
                    told(i, content)
                elif kind == "done":
                    yield i, content
                elif attempts[i] < ATTEMPTS:
                    retried(i, content)
                    waiting.append(i)
                else:
                    yield i, WorkerDied(f"its process died {ATTEMPTS} times ({content})")
    finally:
        pool.end()


class _Worker:
    """A process, this side's end of the pipe to it, and the number of the task that it is at (None: it is idle)."""

    def __init__(self, process: BaseProcess, pipe: Connection) -> None:
        self.process, self.pipe = process, pipe
        self.task: int | None = None
        self.is_ready = False

    def how_it_ended(self) -> str:
        self.process.join(timeout=10)
        self.process.kill()  # it has closed its end of the pipe, so it has ended, or is of no use
        self.process.join()
        code = self.process.exitcode
        return f"killed by signal {-code}" if code < 0 else f"exit status {code}"


class _Pool:
    def __init__(self, function: Callable, set_up: Callable, arguments: tuple) -> None:
        self.context = torch.multiprocessing.get_context("spawn")
        self.in_process = (function, set_up, arguments)
        self.workers: list[_Worker] = []
        self.has_started = False  # any of them, ever
        self.stillborn = 0  # in a row

    @property
    def busy(self) -> list[_Worker]:
        return [worker for worker in self.workers if worker.task is not None]

    @property
    def idle(self) -> list[_Worker]:
        return [worker for worker in self.workers if worker.is_ready and worker.task is None]

    def start(self) -> None:
        with interrupts_held():
            ours, theirs = self.context.Pipe()
            process = self.context.Process(target=_work, args=(theirs, *self.in_process), daemon=True)
            process.start()
            self.workers.append(_Worker(process, ours))
            theirs.close()  # only the process has it now: if it dies, we hear of it

    def give(self, worker: _Worker, i: int, task: Any) -> None:
        worker.task = i
        with suppress(OSError):  # it has just died: `listen` will say so
            worker.pipe.send(task)

    def listen(self) -> Iterator[tuple[int, str, Any]]:
        """What is said of tasks: ("told", a message), ("done", what it gave) or ("died", how); nothing, for a while."""
        # On Windows a process that dies while it starts has not taken its end of the pipe yet, and nothing closes that.
        # So its own end is waited for, too.
        owner = {handle: worker for worker in self.workers for handle in (worker.pipe, worker.process.sentinel)}
        for worker in dict.fromkeys(owner[handle] for handle in wait(list(owner), timeout=EVERY)):
            try:
                if not worker.pipe.poll():
                    raise EOFError
                kind, content = worker.pipe.recv()
            except (EOFError, OSError):  # it is dead, and all that it said was heard
                kind, content = "died", worker.how_it_ended()
                self.workers.remove(worker)
                if not worker.is_ready:
                    self.stillborn += 1
                    if not self.has_started or self.stillborn >= STILLBORN:
                        raise RuntimeError(_STILLBORN.format(how=content)) from None
            i = worker.task
            if kind == "ready":
                worker.is_ready = self.has_started = True
                self.stillborn = 0
            elif kind in ("done", "died"):
                worker.task = None
            if i is not None:  # one that is idle may die too; nothing is lost
                yield i, kind, content

    def end(self) -> None:
        for worker in self.workers:
            worker.process.terminate()  # what it is at is of no use any more, and may take long
        for worker in self.workers:
            worker.process.join()
            worker.pipe.close()


_STILLBORN = (
    "A training process died while it started ({how}); the finished runs are kept. Most likely memory ran out: close "
    "other programs, then run this again (with workers=1 it needs the least). Or, in a script of yours, the call "
    'doesn\'t stand under `if __name__ == "__main__":`, where it must, because the processes import the script.'
)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Ctrl-C waits, and what is started here never hears it: else each process, while it still imports, would die of it
    with a traceback of its own."""
    if threading.current_thread() is not threading.main_thread():  # only that one hears it
        yield
        return
    heard: list[tuple[Any, ...]] = []  # blocking it isn't enough: another thread of this process may take it
    handler = signal.signal(signal.SIGINT, lambda *details: heard.append(details))
    can_block = hasattr(signal, "pthread_sigmask")  # not on Windows
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if can_block else None
    try:
        yield
    finally:
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, handler)
        if heard and callable(handler):
            handler(*heard[0])


# --- in the process -------------------------------------------------------------------------------------------------


def _work(pipe: Connection, function: Callable, set_up: Callable, arguments: tuple) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes: the first one ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which a process that is ended would leave
    set_up(*arguments)
    pipe.send(("ready", None))
    while True:
        try:
            task = pipe.recv()
        except EOFError:  # whoever gave the tasks is gone
            return
        try:
            result = function(task, lambda message: pipe.send(("told", message)))
        except Exception as error:
            result = ExceptionWithTraceback(error, error.__traceback__)  # there, where it was raised is its cause
        pipe.send(("done", result))


def _end_with_parent() -> None:
    """Without this, a process whose parent was killed would wait for its next task forever."""
    torch.multiprocessing.parent_process().join()
    os._exit(1)
