# In Colab, this fetches the project and installs what Colab lacks. Anywhere else, it does nothing.
import os, shutil, subprocess, sys

if "google.colab" in sys.modules:
    source, branch = "https://github.com/bigger-and-deeper/bigger-and-deeper", "main"
    folder = os.path.abspath("bigger-and-deeper")
    if os.path.exists(folder) and not os.path.exists(f"{folder}/utils/colab.py"):
        raise FileExistsError(f"{folder} is not this project: rename it, and run this cell again.")
    if not os.path.exists(folder):
        shutil.rmtree(part := f"{folder}.part", ignore_errors=True)   # of one that was interrupted
        clone = ["timeout", "120", "git", "clone", "-q", "--depth=1", "-b", branch, source, part]
        git = subprocess.run(clone, capture_output=True, text=True)
        if git.returncode:
            to_do = "See that there is a network and the address is right; run this cell again."
            raise ConnectionError(f"{source}, branch {branch}: not fetched. {to_do}\n{git.stderr}")
        os.rename(part, folder)
    sys.path.insert(0, folder)
    from utils.colab import set_up
    set_up()
