"""The programs in tools/, as modules for their tests: each test file has its own, to change as it likes."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
# In what is published, this would tell whose machine it was made on.
FOLDERS_OF_A_MACHINE = r"/(home|Users|root|tmp)/|\\Users\\"
sys.path.insert(0, str(ROOT / "tools"))  # where they look for each other


def tool(name: str) -> ModuleType:
    """The program of that name, loaded anew and not run."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for their module
    spec.loader.exec_module(module)
    return module
