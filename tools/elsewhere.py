"""Every test and notebook from a folder that may not be written, with a space and an umlaut in its path.

`make test-elsewhere`; further words are pytest's. What it does: copies the project into a new folder, makes the
environment there, sees to it that nothing in it can be written any more (on Linux by a read-only mount that only the
tests see; elsewhere by taking the permissions), and runs everything with the caches in another new folder. So a
lecturer's copy on a shared drive is tested, and a student called Größer. In the end both folders are removed.
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

NAME = "Größer und tiefer"
NOT_COPIED = (".git", ".venv*", ".uv", ".*_cache", "__pycache__", "*.egg-info", ".ipynb_checkpoints", "local")
PYTEST = ("-o", "addopts=--import-mode=importlib --nbval-lax", "-p", "no:cacheprovider")
READ_ONLY_MOUNT = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && cd "$0" && exec "$@"'


def main() -> int:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        project, cache = Path(scratch, NAME), Path(scratch, "cache")
        copy_project(project)
        cache.mkdir()
        made = subprocess.run([sys.executable, str(project / "tools" / "setup_environment.py")])
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
    return {**os.environ, "XDG_CACHE_HOME": str(cache), "MPLCONFIGDIR": str(cache), "PYTHONPYCACHEPREFIX": str(cache)}


@contextmanager
def read_only(folder: Path) -> Iterator[tuple[str, ...]]:
    """Nothing in `folder` can be written by what is started with this prefix, until the context ends."""
    if sys.platform == "linux" and shutil.which("unshare"):
        yield ("unshare", "--mount", "--map-root-user", "sh", "-c", READ_ONLY_MOUNT, str(folder))
        return
    paths = [folder, *(path for path in folder.rglob("*") if not path.is_symlink() and path.is_dir())]
    if os.name == "posix":
        for path in paths:
            path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    else:
        denied = f"{os.environ['USERNAME']}:(OI)(CI)(WD,AD,DC,DE)"  # to write, to append, to remove
        subprocess.run(["icacls", str(folder), "/deny", denied, "/Q"], check=True)
    try:
        yield ()
    finally:  # so that it can be removed
        if os.name == "posix":
            for path in paths:
                path.chmod(stat.S_IRWXU)
        else:
            subprocess.run(["icacls", str(folder), "/remove:d", os.environ["USERNAME"], "/Q"], check=True)


def is_read_only(folder: Path, prefix: tuple[str, ...], python: Path) -> bool:
    """Is it so? Root heeds no permissions."""
    code = "import sys; open(sys.argv[1], 'w')"
    tried = subprocess.run([*prefix, str(python), "-c", code, str(folder / "tools" / "new")], capture_output=True)
    return tried.returncode != 0


if __name__ == "__main__":
    sys.exit(main())
