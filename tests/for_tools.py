"""The programs in tools/, as modules for their tests: each test file has its own, to change as it likes."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
# In what is published, this would tell whose machine it was made on.
FOLDERS_OF_A_MACHINE = r"/(home|Users|root|tmp|mnt|Volumes|var/folders)/|\\Users\\"


def of_this_machine() -> re.Pattern[str]:
    """The same and what this machine adds: the home, which has its user's name, and the project's folder."""
    folders = [str(path) for path in (Path.home(), ROOT) if len(path.parts) > 1]
    return re.compile("|".join([FOLDERS_OF_A_MACHINE, *map(re.escape, folders)]))


sys.path.insert(0, str(ROOT / "tools"))  # where they look for each other


def tool(name: str) -> ModuleType:
    """The program of that name, loaded anew and not run."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for their module
    spec.loader.exec_module(module)
    return module
