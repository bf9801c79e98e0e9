"""course.py without an installation: the table of tasks, the stamp, a half-made .venv, and what it says when it cannot."""

import ast
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parent.parent / "course.py"


@pytest.fixture
def course(tmp_path):
    """course.py in a repository of its own; what it would run is noted in `calls` and ends with the next of `codes`."""
    spec = importlib.util.spec_from_file_location("course", PATH)
    course = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(course)
    course.ROOT, course.VENV = tmp_path, tmp_path / ".venv"
    course.PYTHON, course.STAMP = course.VENV / "python", course.VENV / course.STAMP.name
    course.CONSTRAINTS, course.JUPYTER_SETTINGS = tmp_path / "constraints.txt", course.VENV / "settings.json"
    course.JUPYTER_PAGE = course.VENV / "page_config.json"
    (tmp_path / "pyproject.toml").write_text("[project]")
    course.CONSTRAINTS.write_text("torch==2.13.0")
    course.calls, course.codes = [], iter([])
    course.run = lambda *command, **_: record(course, command)
    return course


def record(course, command):
    """In place of course.run: the next code from `course.codes`, else success."""
    course.calls.append([str(part) for part in command])
    if "venv" in command:
        course.VENV.mkdir(exist_ok=True)
        course.PYTHON.touch()
    return next(course.codes, 0)


def kinds(course):
    return ["venv" if "venv" in call else "pip" for call in course.calls]


def test_first_call_makes_the_environment_second_call_nothing(course):
    course.install(course.ALL)
    assert kinds(course) == ["venv", "pip", "pip"]
    assert course.installation(course.ALL) == "ready"
    course.calls.clear()
    course.install(course.ALL)
    assert course.calls == []


def test_pip_is_held_to_the_constraints(course):
    course.install(course.ALL)
    for call in course.calls[1:]:
        assert call[call.index("--constraint") + 1] == str(course.CONSTRAINTS)
    assert not any("index-url" in part for call in course.calls for part in call)


def test_a_learner_waits_only_for_what_a_learner_needs(course):
    course.main(["lab"])
    assert [call[-1] for call in course.calls if "install" in call] == [".[lab]"]
    course.calls.clear()
    course.main(["demo"])
    assert not any("install" in call for call in course.calls)
    course.main(["test"])
    assert [call[-1] for call in course.calls if "install" in call] == [".[lab,test]", "segmentation-models-pytorch"]
    course.calls.clear()
    course.main(["lab"])  # the tests' packages are more, and stay
    assert not any("install" in call for call in course.calls)


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_files_are_installed_into_the_same_environment(course, name):
    course.install(course.ALL)
    (course.ROOT / name).write_text("changed")
    assert course.installation(course.ALL) == "outdated"
    course.calls.clear()
    course.install(course.ALL)
    assert kinds(course) == ["pip", "pip"]


def test_a_repository_moved_elsewhere_is_installed_again(course):
    course.install(course.ALL)
    course.ROOT = course.ROOT / "moved"
    course.ROOT.mkdir()
    (course.ROOT / "pyproject.toml").write_text("[project]")
    assert course.installation(course.ALL) == "outdated"


def test_half_made_environment_is_made_anew(course):
    course.VENV.mkdir()
    course.PYTHON.touch()  # killed while pip was installing: there is a Python, but no stamp
    course.install(course.ALL)
    assert kinds(course) == ["venv", "pip", "pip"]
    assert "--clear" in course.calls[0]


def test_environment_of_another_python_is_made_anew(course):
    course.VENV.mkdir()
    course.PYTHON.touch()
    (course.VENV / "installed-python3.1").write_text(course.fingerprint(course.ALL))
    assert course.installation(course.ALL) == "none"


def test_environment_whose_python_is_gone_is_made_anew(course):
    course.install(course.ALL)
    course.PYTHON.unlink()
    assert course.installation(course.ALL) == "none"


@pytest.mark.parametrize("failing", [1, 2])
def test_failed_pip_says_what_to_do_and_leaves_no_stamp(course, failing):
    course.codes = iter([0] * failing + [1])
    with pytest.raises(SystemExit, match="HTTPS_PROXY"):
        course.install(course.ALL)
    assert course.installation(course.ALL) == "none"


def test_failed_update_leaves_no_stamp(course):
    course.install(course.ALL)
    course.CONSTRAINTS.write_text("torch==2.14.0")
    course.codes = iter([1])
    with pytest.raises(SystemExit, match="no network"):
        course.install(course.ALL)
    assert course.installation(course.ALL) == "none"


def test_failed_venv_says_what_to_do(course):
    course.codes = iter([1])
    with pytest.raises(SystemExit, match="could not be made"):
        course.install(course.ALL)


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_missing_venv_names_the_debian_package(course, monkeypatch, missing):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else find(name))
    with pytest.raises(SystemExit, match="apt install python3-venv"):
        course.install(course.ALL)
    assert course.calls == []


def test_old_python_is_told_which_one_is_needed(course, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    with pytest.raises(SystemExit, match=r"Python 3\.10\.4; the course needs 3\.11"):
        course.main(["lab"])


def test_old_pythons_can_read_the_file():
    ast.parse(PATH.read_text(), feature_version=(3, 6))


@pytest.mark.parametrize(("args", "code"), [([], 0), (["--help"], 0), (["nonsense"], 2)])
def test_help_lists_every_task_and_installs_nothing(course, capsys, args, code):
    assert course.main(args) == code
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in course.TASKS)
    assert course.calls == []


def test_arguments_and_exit_codes_are_passed_on(course):
    course.install(course.ALL)
    course.codes = iter([3])
    assert course.main(["lab", "--no-browser", "--port=9999"]) == 3
    assert course.calls[-1][-2:] == ["--no-browser", "--port=9999"]


def test_study_takes_its_arguments(course):
    course.install(course.ALL)
    assert course.main(["study", "--verify", "0.1"]) == 0
    assert course.calls[-1][-3:] == ["data_scripts/study.py", "--verify", "0.1"]


def test_all_stages_run_although_one_fails(course, capsys):
    course.install(course.ALL)
    course.calls.clear()
    course.codes = iter([1, 0, 0])
    assert course.main(["test", "-k", "dice"]) == 1
    assert [call[2] for call in course.calls] == ["ruff", "ruff", "pytest"]
    assert course.calls[-1][-2:] == ["-k", "dice"]
    assert capsys.readouterr().out.count("passed") == 2


@pytest.mark.parametrize(("missing", "data"), [(0, "nuclei"), (1, "cells")])
def test_demo_says_which_data(course, capsys, missing, data):
    course.install(course.ALL)
    course.codes = iter([missing])
    course.main(["demo", "--epochs", "3"])
    call = course.calls[-1]
    assert call[call.index("--data") + 1] == data
    assert call[-2:] == ["--epochs", "3"]
    assert data in capsys.readouterr().out


@pytest.mark.parametrize("variable", ["UNETLAB_DATA", "UNETLAB_CACHE"])
def test_demo_finds_nuclei_brought_or_fetched(course, tmp_path, variable):
    environment = {**os.environ, "UNETLAB_DATA": "", "UNETLAB_CACHE": "", variable: str(tmp_path)}
    look = [sys.executable, "-c", course.NUCLEI_ARE_HERE]
    assert subprocess.call(look, env=environment) == 1
    (tmp_path / ("data" if variable == "UNETLAB_CACHE" else "") / "nuclei_dsb2018").mkdir(parents=True)
    assert subprocess.call(look, env=environment) == 0


def test_local_builds_are_left_out(course):
    assert course.without_builds("numpy==2.4.6\ntorch==2.13.0+cpu\n") == "numpy==2.4.6\ntorch==2.13.0\n"


def test_run_passes_the_exit_code_and_the_environment():
    child = "import os, sys; sys.exit(int(os.environ['CODE']))"
    parent = f"import course, sys; sys.exit(course.run(sys.executable, '-c', {child!r}, CODE='5'))"
    assert subprocess.call([sys.executable, "-c", parent], cwd=PATH.parent) == 5


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 7), (signal.SIGTERM, 128 + 15)])
def test_the_child_decides_what_a_signal_means(number, code):
    child = """
import time
try:
    time.sleep(0.5)  # until course.py listens for signals, even on a busy machine
    print("up", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    raise SystemExit(7)
"""
    parent = f"""
import course, sys
course.install = lambda steps: None
course.TASKS = {{"sleep": lambda args: course.run(sys.executable, "-c", {child!r})}}
sys.exit(course.main(["sleep"]))
"""
    command = [sys.executable, "-c", parent]
    with subprocess.Popen(
        command, cwd=PATH.parent, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout.readline() == "up\n"
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # Ctrl-C in a terminal goes to parent and child
        else:
            process.send_signal(number)  # kill goes to the parent alone
        assert process.wait(timeout=10) == code


def test_pip_ends_with_course(tmp_path):
    """pip goes on writing into .venv after its parent was killed, unless it notices: the next call would meet it there."""
    (tmp_path / "pip.py").write_text("import time\nprint('up', flush=True)\ntime.sleep(60)")
    parent = "import course, subprocess, sys; course.run(sys.executable, '-c', course.PIP, stdin=subprocess.PIPE)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", parent]
    with subprocess.Popen(command, cwd=PATH.parent, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout.readline() == "up\n"
        process.kill()
        assert process.stdout.read() == ""  # the end of the output: pip is gone too


def test_bench_runs_a_benchmark_with_its_options(course):
    (course.ROOT / "benchmarks").mkdir()
    (course.ROOT / "benchmarks/speed.py").write_text("def main():\n    pass\n")
    (course.ROOT / "benchmarks/shared.py").write_text("x = 1\n")
    assert course.bench(["speed", "--rounds", "2"]) == 0
    assert course.calls == [[str(course.PYTHON), "benchmarks/speed.py", "--rounds", "2"]]


def test_labs_releases_every_chapter_or_hands_its_arguments_to_nbgrader(course):
    for chapter in ("chapter3", "chapter2"):
        (course.ROOT / "labs/source" / chapter).mkdir(parents=True)
    course.codes = iter([0, 1])
    assert course.labs([]) == 1
    assert [call[1:5] for call in course.calls] == [
        ["-m", "nbgrader", "generate_assignment", chapter] for chapter in ("chapter2", "chapter3")
    ]
    course.calls.clear()
    assert course.labs(["autograde", "chapter2", "--student=ada"]) == 0
    assert course.calls == [[str(course.PYTHON), "-m", "nbgrader", "autograde", "chapter2", "--student=ada"]]


def test_labs_are_not_in_a_pupils_copy(course, capsys):
    assert course.labs([]) == 2
    assert "the one for pupils" in capsys.readouterr().out
    assert course.calls == []


@pytest.mark.parametrize("args", [[], ["shared"], ["nothing"]])
def test_bench_names_what_there_is(course, capsys, args):
    (course.ROOT / "benchmarks").mkdir()
    (course.ROOT / "benchmarks/speed.py").write_text("def main():\n    pass\n")
    (course.ROOT / "benchmarks/shared.py").write_text("x = 1\n")
    assert course.bench(args) == 2
    assert "speed" in (said := capsys.readouterr().out) and "shared" not in said
    assert course.calls == []
