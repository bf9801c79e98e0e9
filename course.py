"""The one command of the course: python course.py TASK [arguments]

It makes a virtual environment in .venv, installs the course into it once, and runs the task there.
Standard library only, any system. The file can be read by every Python 3, so that an old one gets a message instead
of a SyntaxError.
"""

import hashlib
import importlib.util
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

OLDEST = (3, 11)
ROOT = pathlib.Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "installed-python{}.{}".format(*sys.version_info)  # written last: a half-made .venv has none
CONSTRAINTS = ROOT / "constraints.txt"

LEARN = [["-e", ".[lab]"]]  # what a learner needs
ALL = [
    ["-e", ".[lab,test]"],
    ["--no-deps", "segmentation-models-pytorch"],  # a peer for tests of losses; its torchvision has no plain CPU build
]

# JupyterLab asks whether it may fetch news, on top of the first page a learner sees; no need.
JUPYTER_SETTINGS = VENV / "share/jupyter/lab/settings/overrides.json"
NO_NEWS = '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}'

# nbgrader's menus are for those who write and grade labs, and a learner does neither.
JUPYTER_PAGE = VENV / "etc/jupyter/labconfig/page_config.json"
NO_GRADING = '{"disabledExtensions": {"@jupyter/nbgrader": true}}'

PIP = """
import os, runpy, threading

def end_with_parent():  # the pipe from course.py ends when course.py does, even if that was killed
    os.read(0, 1)
    os._exit(1)

threading.Thread(target=end_with_parent, daemon=True).start()
runpy.run_module("pip", run_name="__main__")
"""

PYTEST = ["-m", "pytest", "-o", "testpaths=tests notebooks"]
PYTEST += "-n 2 --dist loadfile -p tests.notebooks.budget --durations=15".split()
PYTEST += "--nbval --nbval-current-env --nbval-cell-timeout=600".split()
PYTEST += ["--nbval-sanitize-with=tests/notebooks/sanitize.ini", "-m", "not browser"]


def lab(args):
    """open JupyterLab on the first notebook; arguments go to JupyterLab (--no-browser, --port 8889)"""
    say("Starting JupyterLab, for this machine only. Ctrl-C stops it.")
    options = ["--ServerApp.root_dir=" + str(ROOT)]
    options += ["--LabApp.default_url=/lab/tree/notebooks/00_read_the_article.ipynb"]
    if os.name == "posix" and os.geteuid() == 0:
        options += ["--allow-root"]  # in a container you often are root
    return run(PYTHON, "-m", "jupyterlab", *options, *args)


NUCLEI_ARE_HERE = """
import sys
from unetlab.realsets import REAL_SETS, data_root
sys.exit(not (data_root() / REAL_SETS["nuclei"].folder).is_dir())
"""


def demo(args):
    """train a U-Net without a browser and leave the run in runs/demo; arguments go to unetlab train"""
    data = "nuclei" if run(PYTHON, "-c", NUCLEI_ARE_HERE) == 0 else "cells"
    if data == "nuclei":
        say("Training on real nuclei.")
    else:
        say("Training on synthetic cells. For real nuclei, fetch them first:", PYTHON, "-m unetlab data fetch nuclei")
    return run(PYTHON, "-m", "unetlab", "train", "--data", data, "--out", "runs/demo", "--overwrite", *args)


def test(args):
    """lint, run all tests and check all notebooks; arguments go to pytest (-k dice, notebooks/02b_losses.ipynb)"""
    stages = {
        "ruff check": ["-m", "ruff", "check", "."],
        "ruff format": ["-m", "ruff", "format", "--check", "."],
        "pytest": [*PYTEST, *args],
    }
    results = []
    for name, command in stages.items():
        say("Stage", name)
        start = time.monotonic()
        code = run(PYTHON, *command, OMP_NUM_THREADS="1")  # more threads only get into each other's way
        results.append((name, code, time.monotonic() - start))
    for name, code, seconds in results:
        say(f"{name:12} {seconds:6.1f} s  {'failed' if code else 'passed'}")
    return next((code for _, code, _ in results if code), 0)


def browser(args):
    """drive the live lab in a real Chromium; arguments go to pytest, pictures to artifacts/"""
    return run(PYTHON, "-m", "pytest", "tests/browser", "-m", "browser", *args, OMP_NUM_THREADS="1")


def notebooks(args):
    """run notebooks again, clean and save them, all or those named; --check compares and saves nothing"""
    return run(PYTHON, "tests/notebooks/execute.py", *args)


def records(args):
    """make the recorded runs that widgets replay, all or those named (batch_size, schedules, ...)"""
    return run(PYTHON, "data_scripts/make_records.py", *args, OMP_NUM_THREADS="1")


def handout(args):
    """make a page to print of each notebook, or of those named, in artifacts/handouts: figures, and quiz without answers"""
    return run(PYTHON, "data_scripts/handout.py", *args)


def study(args):
    """make or complete the record of the study in 03e (half an hour); --verify 0.1 repeats a tenth and compares"""
    return run(PYTHON, "data_scripts/study.py", *args, OMP_NUM_THREADS="1")


def bench(args):
    """measure the speed against peers: bench throughput (--help for its options); alone it names what there is"""
    there = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if "def main(" in path.read_text())
    if not args or args[0] not in there:
        say("python course.py bench NAME, which is one of", ", ".join(there))
        return 2
    return run(PYTHON, f"benchmarks/{args[0]}.py", *args[1:], OMP_NUM_THREADS="1")


def labs(args):
    """release the graded labs to labs/release; with arguments, any command of nbgrader (labs autograde chapter2)"""
    chapters = sorted(path.name for path in (ROOT / "labs/source").glob("chapter*"))
    if not chapters:
        say("The labs are not in this copy of the course: it is the one for pupils.")
        return 2
    commands = [args] if args else [["generate_assignment", chapter, "--force"] for chapter in chapters]
    path = os.pathsep.join([str(PYTHON.parent), os.environ["PATH"]])  # nbgrader calls alembic by its name
    return max(run(PYTHON, "-m", "nbgrader", *command, folder=ROOT / "labs", PATH=path) for command in commands)


def doctor(args):
    """say OK or FAIL for each thing the course needs"""
    return run(PYTHON, "-m", "unetlab", "doctor", *args)


def docs(args):
    """make the pictures in the README and in docs/ again; the gallery needs the real sets (docs/data.md)"""
    scripts = ("data_scripts/readme_picture.py", "data_scripts/gallery.py")
    return max(run(PYTHON, script, *args, OMP_NUM_THREADS="1") for script in scripts)


def constraints(args):
    """write the exact versions in .venv to constraints.txt"""
    command = [str(PYTHON), "-m", "pip", "list", "--format=freeze", "--exclude-editable"]
    command += ["--exclude", "pip", "--exclude", "setuptools", "--disable-pip-version-check"]
    versions = subprocess.check_output(command, text=True, cwd=str(ROOT))
    header = "# The exact versions that the tests run with. Made by: python course.py constraints\n"
    CONSTRAINTS.write_text(header + without_builds(versions))
    STAMP.write_text(fingerprint(ALL))  # .venv holds these very versions
    return 0


LEARNERS = (lab, demo, doctor)
MAKERS = (test, browser, notebooks, records, handout, study, bench, labs, docs, constraints)
TASKS = {task.__name__: task for task in LEARNERS + MAKERS}


def main(args):
    if sys.version_info < OLDEST:
        sys.exit(too_old(sys.version_info))
    if not args or args[0] not in TASKS:
        say(usage())
        return 0 if not args or args[0] in ("-h", "--help", "help") else 2
    task = TASKS[args[0]]
    install(LEARN if task in LEARNERS else ALL)
    code = task(args[1:])
    return code if code >= 0 else 128 - code  # a child ended by signal n exits as 128 + n, as in a shell


def install(steps):
    """Make .venv and install the course into it, as the steps say, unless that is done already."""
    state = installation(steps)
    if state == "ready":
        return
    if state == "none":
        missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
        if missing:
            sys.exit(NO_VENV)
        say("Making a virtual environment in", VENV)
        if run(sys.executable, "-m", "venv", "--clear", VENV):
            sys.exit(f"{VENV} could not be made. Close what still runs from it, delete the folder and try again.")
    STAMP.unlink(missing_ok=True)
    size = "120 packages, 1.3 GB" if steps is LEARN else "170 packages, 2 GB"
    say(f"Installing the course, once: {size} on disk, a few minutes ...")
    quiet = [] if sys.stdout.isatty() else ["--quiet"]  # a person waiting for a download wants to see it move
    for what in steps:
        # Most of what is installed is never imported; what is, Python compiles then. It halves the time to the first page.
        options = ["--no-compile", "--no-input", "--disable-pip-version-check", *quiet, "--constraint", CONSTRAINTS]
        if run(PYTHON, "-c", PIP, "install", *options, *what, stdin=subprocess.PIPE):
            sys.exit(NO_INSTALL)
    for path, text in ((JUPYTER_SETTINGS, NO_NEWS), (JUPYTER_PAGE, NO_GRADING)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    STAMP.write_text(fingerprint(steps))
    say("Installed.")


def installation(steps):
    """The state of .venv: "ready", "outdated" (whole, but made from other files or for less), or "none" (half-made)."""
    if not (PYTHON.exists() and STAMP.exists()):
        return "none"
    return "ready" if STAMP.read_text() in (fingerprint(steps), fingerprint(ALL)) else "outdated"


def fingerprint(steps):
    """A hash of all that the installation depends on; the Python version is in the stamp's name."""
    parts = [(ROOT / "pyproject.toml").read_bytes(), CONSTRAINTS.read_bytes(), repr([ROOT, steps]).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def run(*command, stdin=None, folder=None, **environment):
    """Run a command in the repository, or in a folder of it, and return its exit code."""
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C reaches the child too: it decides what to do
    # Threads that wait shall sleep, not spin: beside a busy browser, spinning made a training step ten times slower.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **environment}
    child = subprocess.Popen([str(part) for part in command], cwd=str(folder or ROOT), env=environment, stdin=stdin)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    return child.wait()


def without_builds(versions):
    """The lines without local build tags: torch==2.13.0+cpu becomes torch==2.13.0, which every system can install."""
    return re.sub(r"\+\S+", "", versions)


def usage():
    lines = [f"  {name:12} {task.__doc__}" for name, task in TASKS.items()]
    return "\n".join(["python course.py TASK [arguments]", "", *lines])


def too_old(version):
    found, oldest = ".".join(map(str, version[:3])), ".".join(map(str, OLDEST))
    return f"This is Python {found}; the course needs {oldest} or newer. Try: python{oldest} course.py"


NO_VENV = """This Python cannot make virtual environments: a part of its standard library is not installed.
On Debian and Ubuntu: sudo apt install python3-venv. Elsewhere: install Python from python.org."""

NO_INSTALL = """The installation failed; pip says why above. Most often it is one of these:
  no network, or a proxy: connect, or set HTTPS_PROXY;
  a full disk: 4 GB are enough.
Then give the same command again: finished downloads are kept."""


def say(*words):
    print(*words, flush=True)  # flushed, so that our lines and those of the children keep their order


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
