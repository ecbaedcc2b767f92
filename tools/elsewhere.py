"""Every test and notebook from a folder that may not be written, with a space and an umlaut in its path.

`make test-elsewhere`; further words are pytest's. What it does: copies the project into a new folder, makes the
environment there, sees to it that nothing in it can be written any more (on Linux by a read-only mount that only the
tests see; else by taking the permissions), and runs everything with the caches in another new folder. So a lecturer's
copy on a shared drive is tested, and a student called Größer. In the end both folders are removed. For Linux and macOS.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for who loads this file as a module
from setup_environment import BIN, EXE, ROOT

sys.path.insert(0, str(ROOT))
from utils.words import speak_anywhere

NAME = "Größer und tiefer"
NOT_COPIED = (".git", ".venv*", ".uv", ".*_cache", "__pycache__", "*.egg-info", ".ipynb_checkpoints", "local")
PYTEST = ("-p", "no:cacheprovider")
TRY = """
import errno, os, sys
try:
    open(new := os.path.join(sys.argv[1], "new"), "w").close()
except OSError as error:
    print("refused" if error.errno in (errno.EROFS, errno.EACCES) else error)
else:
    os.remove(new)
    print("written")
"""
READ_ONLY_MOUNT = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && cd "$0" && exec "$@"'


def main() -> int:
    speak_anywhere()
    if os.name != "posix":
        sys.exit("This takes Linux or macOS: elsewhere it has no way to keep a folder from being written.")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        project, cache = Path(scratch, NAME), Path(scratch, "cache")
        copy_project(project)
        cache.mkdir()
        alone = {} if own_mounts() else {"UV_LINK_MODE": "copy"}  # else what loses its permissions is uv's cache, too
        making = [sys.executable, str(project / "tools" / "setup_environment.py")]
        made = subprocess.run(making, env={**os.environ, **alone})
        if made.returncode:
            return made.returncode
        python = project / ".venv" / BIN / f"python{EXE}"
        with read_only(project) as prefix:
            if not is_read_only(project, prefix, python):
                print(f"{project} can still be written (by root?): nothing was tested", file=sys.stderr)
                return 1
            command = [*prefix, str(python), "-m", "pytest", *PYTEST, *sys.argv[1:]]
            return subprocess.run(command, cwd=project, env=environment(cache)).returncode


def copy_project(target: Path) -> None:
    """The project as the working tree has it, without environments, caches and your own results."""
    shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*NOT_COPIED), dirs_exist_ok=True)


def environment(cache: Path) -> dict[str, str]:
    """This process's, with what is written elsewhere: caches, bytecode."""
    home = {"HOME": str(cache)} if sys.platform == "darwin" else {"XDG_CACHE_HOME": str(cache)}
    each = dict.fromkeys(("MPLCONFIGDIR", "PYTHONPYCACHEPREFIX", "RUFF_CACHE_DIR"), str(cache))
    return {**os.environ, **home, **each}


@contextmanager
def read_only(folder: Path) -> Iterator[tuple[str, ...]]:
    """Nothing in `folder` can be written by what is started with this prefix, until the context ends."""
    if mounts := own_mounts():
        yield (*mounts, "sh", "-c", READ_ONLY_MOUNT, str(folder))
        return
    paths = [path for path in (folder, *folder.rglob("*")) if not path.is_symlink()]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths}
    try:
        for path in reversed(paths):
            path.chmod(modes[path] & ~0o222)
        yield ()
    finally:  # so that it can be removed
        for path in paths:
            path.chmod(modes[path])


def own_mounts() -> tuple[str, ...]:
    """Put before a command, this lets it mount what it likes, for itself alone; () where that can't be had."""
    if sys.platform == "linux" and shutil.which("unshare"):
        for way in (("unshare", "--mount"), ("unshare", "--mount", "--map-root-user")):
            with tempfile.TemporaryDirectory() as folder:
                tried = subprocess.run([*way, "mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True)
            if tried.returncode == 0:
                return way
    return ()


def is_read_only(folder: Path, prefix: tuple[str, ...], python: Path) -> bool:
    """Is it so? Root heeds no permissions. RuntimeError if not even that can be tried."""
    tried = subprocess.run([*prefix, str(python), "-c", TRY, str(folder)], capture_output=True, encoding="utf-8")
    if tried.stdout.strip() not in ("written", "refused"):
        raise RuntimeError(f"{' '.join([*prefix, str(python)])} doesn't start:\n{tried.stderr}")
    return tried.stdout.strip() == "refused"


if __name__ == "__main__":
    sys.exit(main())
