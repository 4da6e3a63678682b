"""Make the kernel of a Colab session ready for the lessons: `%run ../tools/colab.py`

The first cell of the copies that tools/site.py makes for Colab runs this, in the folder
notebooks/ of a clone. It installs what requirements.lock and student.lock pin into the
Python of the kernel, less what Colab's own page and kernel run on, and restarts the
kernel where a package that was already loaded has another version now.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DONE = ROOT / "outputs" / "colab-ready"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# the page and the kernel talk to each other through these: they stay as Colab has them
COLABS_OWN = re.compile(
    r"jupyter|notebook|ipy|widgets|nb|traitlets|tornado|pyzmq|comm\b|debugpy|psutil|"
    r"matplotlib-inline|nest-asyncio|prompt-toolkit|jedi|parso|decorator|pexpect"
)
# built for Colab's torch, and imported by transformers and peft where they are there
FOR_ANOTHER_TORCH = ("torchvision", "torchaudio", "torchao")


def for_colab(lock: str) -> str:
    """The lines of a lock file without the packages that stay as Colab has them."""
    packages = re.split(r"^(?=[a-z])", lock, flags=re.M)
    return "".join(text for text in packages if not COLABS_OWN.match(text))


def loaded() -> dict[str, str]:
    """Package -> version now installed, of the packages of all loaded modules."""
    owners = importlib.metadata.packages_distributions()
    names = {
        name for module in set(sys.modules) & set(owners) for name in owners[module]
    }
    return {name: importlib.metadata.version(name) for name in names}


def pip(*arguments: str) -> None:
    """Run pip in the kernel's Python; raises RuntimeError with what it said."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"{done.stderr.strip()}\n----\npip {' '.join(arguments)} failed: run this "
            "cell again; if it fails again, run the lesson on your own computer"
        )


def install() -> None:
    """Install what the lessons need; raises RuntimeError where that fails."""
    locked = ["install", "-q", "--no-deps", "--require-hashes", "-r"]
    print("1/3: the packages (two or three minutes)", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "requirements.lock"
        lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
        wanted.write_text(for_colab(lock), encoding="utf-8")
        pip(*locked, str(wanted))
    print("2/3: torch", flush=True)
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    pin = re.search(r"^torch==\S+", pins, re.M)[0]
    # the build for NVIDIA cards takes gigabytes that a session without one can spare
    index = [] if shutil.which("nvidia-smi") else ["--index-url", CPU_INDEX]
    pip("install", "-q", *index, pin)
    pip("uninstall", "-q", "-y", *FOR_ANOTHER_TORCH)
    print("3/3: smollm2, the student model", flush=True)
    pip(*locked, "student.lock")


def main() -> None:
    # no install of this folder: a kernel that runs does not see one
    sys.path.insert(0, str(ROOT))
    if not DONE.exists():
        before = loaded()
        install()
        DONE.parent.mkdir(exist_ok=True)
        DONE.touch()
        importlib.invalidate_caches()
        after = {name: importlib.metadata.version(name) for name in before}
        if changed := sorted(name for name in before if before[name] != after[name]):
            print(
                f"New versions of {', '.join(changed)}: the kernel restarts now, which "
                "Colab calls a crash. Then run this cell once more.",
                flush=True,
            )
            time.sleep(2)  # until the line is on the page
            os._exit(0)
    print("Ready: go on with the next cell.")


if __name__ == "__main__":
    main()
