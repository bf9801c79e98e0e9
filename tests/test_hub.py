"""The hub of deploy/, started for real: log-ins, notebooks, limits, and what a pupil cannot see.

It needs root (each pupil gets a Unix account), configurable-http-proxy from npm, and a Python with JupyterHub that other
accounts may run; UNETLAB_HUB_PYTHON names one. Where something is missing these tests are skipped, and say what. The one
in which a browser opens a lesson needs Chromium, and unetlab in that Python.
"""

import json
import os
import pwd
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tornado")
if os.name != "posix":
    pytest.skip("Unix accounts keep pupils apart; this is no Unix", allow_module_level=True)

sys.path.insert(0, str(Path(__file__).parent / "browser"))
from driver import CHROMIUM, NO_CHROMIUM, Notebook, chromium
from hub import Person, running_hub
from test_live_lab import RATE, STEP, Lab

ROOT = Path(__file__).parent.parent
MASTER = "labs/source/chapter2/lab2.ipynb"
LESSON = "03d_live_learning_rate.ipynb"
CLASS, TEACHER = "unet-is-fun", secrets.token_hex(20)
SUFFIX = secrets.token_hex(3)  # so that no account of this machine is touched
ADA, BOB, CLEO, EVE, BOSS = (f"{name}-{SUFFIX}" for name in ("ada", "bob", "cleo", "eve", "boss"))
PYTHON = Path(os.environ.get("UNETLAB_HUB_PYTHON", sys.executable))


def missing():
    """What the hub needs and is not here; empty if it can start."""
    if os.geteuid():
        yield "root"
    for program in ("configurable-http-proxy", "useradd", "userdel", "setpriv"):
        if shutil.which(program) is None:
            yield program
    if not PYTHON.with_name("jupyterhub").exists():
        yield "JupyterHub"
    elif shutil.which("setpriv") and not os.geteuid():
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", PYTHON, "-c", "import jupyterhub"]
        if subprocess.run(command, capture_output=True, check=False, cwd="/").returncode:
            yield f"a Python that other accounts may run ({PYTHON} is not one; see UNETLAB_HUB_PYTHON)"


lacking = list(missing())
if lacking:
    pytest.skip(f"the hub needs {', '.join(lacking)}", allow_module_level=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders that an administrator would make: the course, the homes, and the repository with the masters of the labs."""
    folder = tmp_path_factory.mktemp("hub")
    for part in [folder, *folder.parents]:
        if part.stat().st_uid == os.geteuid() and part != Path("/") and part.is_relative_to("/tmp"):
            part.chmod(part.stat().st_mode | 0o011)  # others may pass through, as on a server
    course = folder / "course"
    course.mkdir()
    (course / "lesson.ipynb").write_text(json.dumps(notebook("print('hello')")))
    shutil.copy(ROOT / "notebooks" / LESSON, course)
    master = folder / "repository" / MASTER
    master.parent.mkdir(parents=True)
    master.write_text("42")
    (folder / "repository").chmod(0o700)  # as docs/teaching/server.md says
    homes = folder / "homes"
    homes.mkdir()
    for public in (course, homes):
        public.chmod(0o755)
    return folder


def notebook(code):
    cell = {"cell_type": "code", "source": code, "metadata": {}, "outputs": [], "execution_count": None, "id": "a"}
    return {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture(scope="module")
def hub(place):
    secret = place / "secrets.toml"
    secret.write_text(f'class_password = "{CLASS}"\nteacher_password = "{TEACHER}"\n')
    secret.chmod(0o600)
    settings = {
        "SECRETS": secret,
        "TEACHER": BOSS,
        "COURSE": place / "course",
        "HOMES": place / "homes",
        "STATE": place / "state",
        "MEMORY": 2,
    }
    settings = {f"UNETLAB_HUB_{name}": str(value) for name, value in settings.items()}
    try:
        with running_hub(PYTHON, place, settings) as address:
            yield address
    finally:
        for account in [user.pw_name for user in pwd.getpwall() if user.pw_name.endswith(SUFFIX)]:
            subprocess.run(["userdel", "--remove", account], check=False, capture_output=True)


@pytest.fixture(scope="module")
def people(hub, place):
    """Ada, Bob and the teacher, each with a server."""
    persons = [Person(hub, ADA, CLASS), Person(hub, BOB, CLASS), Person(hub, BOSS, TEACHER)]
    for person in persons:
        assert person.status == 200
        person.start(place / "hub.log")
    return persons


@pytest.mark.parametrize(
    "name, password",
    [(EVE, "wrong-password"), (EVE, ""), (EVE, TEACHER), (BOSS, CLASS), ("Eve Adams", CLASS), ("../root", CLASS)],
)
def test_a_wrong_password_opens_nothing(hub, name, password):
    assert Person(hub, name, password).status == 403


def test_a_pupil_opens_a_notebook_and_finds_it_again(people, hub, place):
    ada = people[0]
    assert ada.get(f"/user/{ADA}/lab").status_code == 200
    lesson = ada.server("GET", "api/contents/notebooks/lesson.ipynb").json()
    assert lesson["content"]["cells"][0]["source"] == "print('hello')"
    changed = {"type": "notebook", "format": "json", "content": notebook("print('mine')")}
    assert ada.server("PUT", "api/contents/notebooks/lesson.ipynb", json=changed).status_code == 200
    again = Person(hub, ADA, CLASS)
    again.start(None)
    assert (
        again.server("GET", "api/contents/notebooks/lesson.ipynb").json()["content"]["cells"][0]["source"]
        == "print('mine')"
    )


def test_a_browser_opens_a_lesson_and_moves_its_slider(hub):
    """All that a pupil does: the form, the wait for her server, notebook 03d, and a hand on the run in her kernel."""
    if CHROMIUM is None:
        pytest.skip(NO_CHROMIUM)
    if subprocess.run([PYTHON, "-c", "import unetlab"], capture_output=True, check=False, cwd="/").returncode:
        pytest.skip(f"{PYTHON} has no unetlab")
    with chromium() as browser, browser.new_page(viewport={"width": 1400, "height": 1050}) as page:
        page.goto(f"{hub}/hub/login")
        page.get_by_label("Username").fill(CLEO)
        page.get_by_label("Password").fill(CLASS)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"**/user/{CLEO}/lab/**", timeout=180_000)
        lesson = Notebook(page, f"{hub}/user/{CLEO}/lab?", f"notebooks/{LESSON}")
        lesson.open()
        lesson.run("""async () => {
            const cells = panel.content.widgets.map((cell) => cell.model.sharedModel.getSource());
            panel.content.activeCellIndex = cells.findIndex((code) => code.includes('lab.show()')) + 1;
            await jupyterapp.commands.execute('notebook:run-all-above');
        }""")
        lab = Lab(lesson)
        lab.click("Start")
        lesson.until(f"{STEP} > 2", timeout=60)
        assert lesson.value(RATE) == 1e-4
        lab.press("Learning rate", *["ArrowRight"] * 50)  # 0.02 decades each
        lesson.until(f"abs({RATE} - 1e-3) < 1e-5", timeout=60)
        step = lesson.value(STEP)
        lesson.until(f"{STEP} > {step} + 2", timeout=60)
        assert lesson.value("__import__('pwd').getpwuid(__import__('os').getuid()).pw_name") == f"class-{CLEO}"
        lesson.shot("hub")
        lab.click("Stop")
        lab.says("run 1: stopped")
        assert not lesson.problems


def test_the_teacher_runs_the_hub_and_pupils_do_not(people):
    ada, _, teacher = people
    assert teacher.get("/hub/admin").status_code == 200
    assert ada.get("/hub/admin").status_code == 403


def test_a_pupil_is_an_account_of_her_own_and_not_root(people):
    said = people[0].run("import os; print(os.getuid() > 0, os.getgroups() == [os.getgid()], os.path.expanduser('~'))")
    assert said.startswith("True True") and said.strip().endswith(f"class-{ADA}")


def test_a_pupil_cannot_read_what_is_not_hers(people, place):
    """Neither the neighbour's files, nor those of the teacher, nor the masters of the labs, nor the passwords; nor can she
    look through the neighbour's server."""
    ada, bob, teacher = people
    bob.run("open('notebooks/secret.txt', 'w').write('of bob')")
    teacher.run("import os; os.mkdir('answers'); open('answers/lab.ipynb', 'w').write('42')")
    homes = place / "homes"
    targets = [
        homes / f"class-{BOB}" / "notebooks" / "secret.txt",
        homes / f"class-{BOSS}" / "answers" / "lab.ipynb",
        place / "repository" / MASTER,
        place / "secrets.toml",
        place / "state" / "cookie_secret",
        place / "state" / "hub.sqlite",
    ]
    assert all(target.exists() for target in targets)
    for target in targets:
        assert "PermissionError" in ada.run(f"open({str(target)!r}).read()"), target
        assert "PermissionError" in ada.run(f"open({str(target)!r}, 'a')"), target
    code = """
import glob, os
mine = 0
for file in glob.glob('/proc/[0-9]*/environ'):
    try:
        content = open(file, 'rb').read()
    except OSError:
        continue
    assert os.stat(os.path.dirname(file)).st_uid == os.getuid(), file
    mine += 1
print('own processes alone:', mine > 0)
"""
    assert ada.run(code) == "own processes alone: True\n"
    for path in ("api/contents/notebooks/secret.txt", "lab"):
        assert ada.server("GET", path, of=BOB).status_code in (403, 404)


def test_limits_of_memory_and_cores(people):
    said = people[0].run("import os; print(len(os.sched_getaffinity(0)))\nx = bytearray(3 * 2**30)")
    assert said.startswith("1\n") and "MemoryError" in said
    assert people[0].run("x = bytearray(2**29); print('fits')") == "fits\n"


def test_a_word_keeps_a_name_to_oneself(hub):
    assert Person(hub, EVE, CLASS).status == 200  # nobody has locked it
    assert Person(hub, EVE, f"{CLASS}/apple").status == 200  # from here on the word counts
    assert Person(hub, EVE, CLASS).status == 403
    assert Person(hub, EVE, f"{CLASS}/pear").status == 403
    assert Person(hub, EVE, f"{CLASS}/apple").status == 200
