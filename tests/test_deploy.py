"""The files for a server, as far as they can be checked without one; tests/test_hub.py starts the hub."""

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import pytest
import yaml
from traitlets.config.loader import PyFileConfigLoader

ROOT = Path(__file__).parent.parent
CLASS, TEACHER = "unet-is-fun", "a-teacher-password-of-32-letters-"

unix = pytest.mark.skipif(sys.platform == "win32", reason="JupyterHub runs on Unix")


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load the configuration with these settings; by default with both passwords in the environment."""

    def load(**settings):
        usual = {"CLASS_PASSWORD": CLASS, "TEACHER_PASSWORD": TEACHER, "STATE": tmp_path / "state"}
        for name, value in (usual | settings).items():
            if value is None:
                monkeypatch.delenv(f"UNETLAB_HUB_{name}", raising=False)
            else:
                monkeypatch.setenv(f"UNETLAB_HUB_{name}", str(value))
        return PyFileConfigLoader("jupyterhub_config.py", path=str(ROOT / "deploy")).load_config()

    return load


def secret(path, text, mode=0o600):
    path.write_text(text)
    path.chmod(mode)
    return {"CLASS_PASSWORD": None, "TEACHER_PASSWORD": None, "SECRETS": path}


# ------------------------------------------------------------------------------------------------- one machine


@unix
def test_every_option_of_the_configuration_exists(load):
    from jupyterhub import app, auth, proxy, spawner
    from jupyterhub.authenticators.shared import SharedPasswordAuthenticator

    classes = [app.JupyterHub, auth.Authenticator, proxy.ConfigurableHTTPProxy, spawner.Spawner]
    classes = {each.__name__: each for each in [*classes, SharedPasswordAuthenticator]}
    config = load(GPU_SHARE="0.1")
    assert config.keys() - classes.keys() == {"SystemdSpawner"}  # not installed where systemd does not run
    for name, section in config.items():
        if name in classes:
            assert section.keys() <= classes[name].class_traits(config=True).keys(), name
    assert config.Spawner.environment["PYTORCH_ALLOC_CONF"] == "per_process_memory_fraction:0.1"
    assert config.JupyterHub.bind_url.startswith("http://127.0.0.1")


@unix
@pytest.mark.parametrize(
    "text, mode, why",
    [
        (None, 0o600, "No passwords: .*cannot be read"),
        (f'class_password = "{CLASS}"', 0o600, "has no teacher_password"),
        ("class_password = ", 0o600, "cannot be read"),
        (f'class_password = "{CLASS}"\nteacher_password = "{TEACHER}"', 0o640, "can be read by others"),
        (f'class_password = "{CLASS}"\nteacher_password = "{TEACHER}"', 0o604, "can be read by others"),
    ],
)
def test_without_passwords_that_are_secret_the_hub_does_not_start(load, tmp_path, text, mode, why):
    settings = {"CLASS_PASSWORD": None, "TEACHER_PASSWORD": None, "SECRETS": tmp_path / "none.toml"}
    if text is not None:
        settings = secret(tmp_path / "secrets.toml", text, mode)
    with pytest.raises(SystemExit, match=why):
        load(**settings)


@unix
def test_passwords_from_a_file(load, tmp_path):
    text = f'class_password = "{CLASS}"\nteacher_password = "{TEACHER}"'
    config = load(**secret(tmp_path / "secrets.toml", text))
    shared = config.SharedPasswordAuthenticator
    assert (shared.user_password, shared.admin_password) == (CLASS, TEACHER)
    assert (tmp_path / "state").stat().st_mode & 0o077 == 0


@unix
@pytest.mark.parametrize(
    "name, good",
    [("ada", True), ("ada-2", True), ("root", True), ("2ada", False), ("a b", False), ("../a", False), ("a\n", False)]
    + [("a" * 24, True), ("a" * 25, False), ("", False), ("-r", False)],
)
def test_names_become_accounts_without_surprises(load, name, good):
    config = load()
    assert bool(re.match(config.Authenticator.username_pattern, name)) == good
    assert config.SystemdSpawner.username_template == "class-{USERNAME}"  # root becomes class-root


@unix
def test_who_may_log_in(load):
    config = load(TEACHER="boss")
    authenticator = config.JupyterHub.authenticator_class(config=config)

    def login(name, password):
        user = asyncio.run(authenticator.authenticate(None, {"username": name, "password": password}))
        return user and (user["name"], user["admin"])

    assert login("ada", CLASS) == ("ada", False)
    assert login("boss", TEACHER) == ("boss", True)
    for name, password in [("ada", TEACHER), ("boss", CLASS), ("ada", ""), ("ada", "x"), ("ada", "密码"), ("boss", "")]:
        assert login(name, password) is None
    # A word of one's own: from its first use on the name opens with it alone.
    assert login("bob", f"{CLASS}/苹果") == ("bob", False)
    assert login("bob", CLASS) is login("bob", f"{CLASS}/pear") is login("bob", "x/苹果") is None
    assert login("bob", f"{CLASS}/苹果") == ("bob", False)
    assert login("ada", CLASS) == ("ada", False)
    words = Path(os.environ["UNETLAB_HUB_STATE"]) / "words.json"
    assert json.loads(words.read_text()).keys() == {"bob"} and "苹果" not in words.read_text()


# ------------------------------------------------------------------------------------- what was not run anywhere


# What we set of the chart, with the types that its schema allows: jupyterhub/values.schema.yaml of
# jupyterhub/zero-to-jupyterhub-k8s at 02dd73d. The schema refuses every other key beside these.
TEXT, SWITCH, NUMBER = str, bool, (int, float)
CHART = {
    "hub": {"config": dict, "extraEnv": dict, "extraConfig": dict},
    "singleuser": {
        "image": {"name": TEXT, "tag": TEXT},
        "defaultUrl": TEXT,
        "startTimeout": int,
        "cpu": {"guarantee": NUMBER, "limit": NUMBER},
        "memory": {"guarantee": (*NUMBER, TEXT), "limit": (*NUMBER, TEXT)},
        "storage": {"capacity": TEXT, "homeMountPath": TEXT},
        "lifecycleHooks": {"postStart": dict},
        "extraEnv": dict,
        "profileList": list,
    },
    "cull": {"enabled": SWITCH, "timeout": int, "every": int},
    "prePuller": {"continuous": {"enabled": SWITCH}},
}


def misfits(values, schema, place=""):
    """The entries of our values that the schema does not know, or knows with another type."""
    for name, value in values.items():
        allowed = schema.get(name, ())
        if isinstance(allowed, dict) and isinstance(value, dict):
            yield from misfits(value, allowed, f"{place}{name}.")
        elif isinstance(allowed, dict) or not isinstance(value, allowed):
            yield f"{place}{name}"


def test_the_values_fit_the_schema_of_the_chart():
    values = yaml.safe_load((ROOT / "deploy/z2jh-values.yaml").read_text())
    assert list(misfits(values, CHART)) == []
    values["singleuser"] |= {"startTimeout": "600", "image": {"name": "course", "tag": 1}}
    values["cull"]["timeOut"] = 3600
    assert list(misfits(values, CHART)) == ["singleuser.image.tag", "singleuser.startTimeout", "cull.timeOut"]


def test_the_values_for_a_cluster():
    values = yaml.safe_load((ROOT / "deploy/z2jh-values.yaml").read_text())
    assert values.keys() == {"hub", "singleuser", "cull", "prePuller"}
    pupil = values["singleuser"]
    assert {"limit", "guarantee"} == pupil["cpu"].keys() == pupil["memory"].keys()
    default, gpu = pupil["profileList"]
    assert default["default"] and gpu["kubespawner_override"]["extra_resource_limits"] == {"nvidia.com/gpu": "1"}
    (code,) = values["hub"]["extraConfig"].values()
    compile(code, "extraConfig", "exec")
    names = set(re.findall(r'environ\["(\w+)"\]', code))
    assert names == values["hub"]["extraEnv"].keys()
    assert all("secretKeyRef" in each["valueFrom"] for each in values["hub"]["extraEnv"].values())  # no password here


def test_the_image_and_the_codespace_install_what_the_course_does():
    lines = (ROOT / ".binder/requirements.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["-c ../constraints.txt", "-e .[lab]"]
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    assert container["postCreateCommand"] == "python course.py doctor"
    oldest = re.search(r">=(3\.\d+)", (ROOT / "pyproject.toml").read_text())[1]
    assert container["image"].endswith(f"python:{oldest}")
    assert (ROOT / ".binder/runtime.txt").read_text() == f"python-{oldest}\n"
