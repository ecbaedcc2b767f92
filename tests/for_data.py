"""What tests of utils/data.py have done in processes of their own, which import it by name."""

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from utils import data


def use(folder):
    """The tiny files in `folder`/system pass for the real ones, and lie where the system's package would put them."""
    for name, value in json.loads((folder / "files.json").read_text(encoding="utf-8")).items():
        data.FILES[name] = tuple(value)
    data.SYSTEM_FOLDER = folder / "system"


def fill(folder, who, rounds):
    """In each round, load by way of an empty cache, at the same moment as all others."""
    heavy = {"torchvision", "platformdirs", "matplotlib", "PIL"} & set(sys.modules)
    assert not heavy or "ipykernel" in sys.modules, f"importing utils.data must stay light, it brought {heavy}"
    use(folder)
    digests = []
    for i in range(rounds):
        (folder / f"{i} {who} is ready").touch()
        while not (folder / f"{i} go").exists():
            time.sleep(0.0005)
        digests.append(data.load_fashion_mnist(folder / f"cache {i}", report=lambda line: None).digest)
    (folder / f"{who}.json").write_text(json.dumps(digests), encoding="utf-8")


def be_killed_while_writing(folder):
    """Killed when the third file is half written: nothing that Python does at the end is done."""
    use(folder)
    write_bytes, begun = Path.write_bytes, []

    def half(path, content):
        begun.append(path)
        if len(begun) < 3:
            return write_bytes(path, content)
        write_bytes(path, content[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    Path.write_bytes = half
    data.load_fashion_mnist(folder / "cache", report=lambda line: None)


def meet_a_full_disk(folder, full):
    """Load with the cache on the full disk `full`, then with the temporary folder there; say what came of it."""
    from_apt = data._from_apt
    use(folder)
    lines = []
    found = data.load_fashion_mnist(full / "cache", report=lines.append)
    left = [str(path) for path in full.rglob("*") if path.is_file()]

    data.SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # as it is called inside the package
    tempfile.tempdir = str(full)
    try:
        from_apt(lines.append)
    except data._Unavailable as reason:
        lines.append(f"apt: {reason}")
    left += [str(path) for path in full.rglob("tmp*")]
    (folder / "found.json").write_text(
        json.dumps({"digest": found.digest, "lines": lines, "left": left}), encoding="utf-8"
    )
