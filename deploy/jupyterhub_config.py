"""JupyterHub for a class on one machine. docs/teaching/server.md tells how to install and start it.

    jupyterhub -f deploy/jupyterhub_config.py        as root

Pupils log in with any name and the class password, the teacher with a password of her own. Every name gets a Unix
account of its own (``class-NAME``) with a home that nobody else can enter: that is what keeps pupils apart. Where systemd
runs, it limits the memory and processor time of each pupil; elsewhere the kernel limits each of their processes.

Settings come from the environment:

UNETLAB_HUB_SECRETS    file that root alone can read, default /etc/unetlab-hub.toml, with class_password and
                       teacher_password; or the variables UNETLAB_HUB_CLASS_PASSWORD and UNETLAB_HUB_TEACHER_PASSWORD
UNETLAB_HUB_TEACHER    her log-in name, default teacher
UNETLAB_HUB_COURSE     folder that every home gets a copy of, default /srv/unetlab/notebooks
UNETLAB_HUB_HOMES      folder of the homes, default /home
UNETLAB_HUB_STATE      folder for what the hub remembers, default /var/lib/unetlab-hub
UNETLAB_HUB_MEMORY     gigabytes for each pupil, default 3
UNETLAB_HUB_CPUS       cores for each pupil, default 1
UNETLAB_HUB_IDLE       seconds after which an idle server is stopped, default 3600
UNETLAB_HUB_GPU_SHARE  share of the GPU's memory for each kernel, such as 0.1; unset: first come, first served
"""

import hashlib
import json
import os
import pwd
import resource
import secrets
import subprocess
import sys
import tomllib
from pathlib import Path

from jupyterhub.authenticators.shared import SharedPasswordAuthenticator
from jupyterhub.spawner import LocalProcessSpawner

ACCOUNT = "class-{USERNAME}"  # never the name itself: a pupil may call herself root
NAMES = r"[a-z][a-z0-9-]{0,23}\Z"
PROCESSES = 512  # and threads, for each pupil


def setting(name: str, default: str) -> str:
    return os.environ.get(f"UNETLAB_HUB_{name}") or default


def passwords() -> tuple[str, str]:
    """Those of the class and of the teacher. There is no default: without them the hub does not start."""
    given = [os.environ.get(f"UNETLAB_HUB_{who}_PASSWORD") for who in ("CLASS", "TEACHER")]
    if all(given):
        return tuple(given)
    path = Path(setting("SECRETS", "/etc/unetlab-hub.toml"))
    try:
        facts, content = path.stat(), tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        sys.exit(f"No passwords: {path} cannot be read ({error}). See docs/teaching/server.md.")
    if facts.st_mode & 0o077 or facts.st_uid != os.geteuid():
        sys.exit(f"{path} can be read by others than its owner: chown root {path} && chmod 600 {path}")
    try:
        return content["class_password"], content["teacher_password"]
    except KeyError as name:
        sys.exit(f"{path} has no {name.args[0]}. See docs/teaching/server.md.")


class ClassAuthenticator(SharedPasswordAuthenticator):
    """The class password opens any name; a word of one's own after it keeps a name to oneself.

    With the class password alone, whoever knows it can log in under a neighbour's name. A pupil who types
    ``PASSWORD/WORD`` once locks the name: from then on it opens with that word only. Words are kept as scrypt hashes.
    """

    words = Path(setting("STATE", "/var/lib/unetlab-hub")) / "words.json"

    async def authenticate(self, handler, data):
        name, whole = self.normalize_username(data["username"]), data["password"]
        password, _, word = whole.partition("/")
        if name in self.admin_users:  # her password may hold a slash
            password, word = whole, ""
        if not password.isascii():  # of other letters compare_digest would raise
            return None
        user = await super().authenticate(handler, data | {"password": password})
        if user is None or name in self.admin_users:
            return user
        return user if self._opens(name, word) else None

    def _opens(self, name: str, word: str) -> bool:
        """Whether a word opens a name; the first word that is given for a name becomes its word."""
        known = json.loads(self.words.read_text(encoding="utf-8")) if self.words.exists() else {}
        if name in known:
            salt, digest = known[name]
            return secrets.compare_digest(digest, _scrypt(word, salt))
        if word:
            salt = secrets.token_hex(16)
            draft = self.words.with_suffix(".draft")
            draft.write_text(json.dumps(known | {name: [salt, _scrypt(word, salt)]}), encoding="utf-8")
            draft.replace(self.words)
        return True


def _scrypt(word: str, salt: str) -> str:
    return hashlib.scrypt(word.encode(), salt=salt.encode(), n=2**14, r=8, p=1).hex()


def make_account(spawner) -> None:
    """Before a server starts: the Unix account, its home, and the notebooks that are not in it yet."""
    account = ACCOUNT.format(USERNAME=spawner.user.name)
    try:
        pwd.getpwnam(account)
    except KeyError:
        where = ["--create-home", "--base-dir", setting("HOMES", "/home"), "--key", "HOME_MODE=0700"]
        subprocess.run(["useradd", *where, "--user-group", "--shell", "/bin/bash", account], check=True)
    home = pwd.getpwnam(account).pw_dir
    course = setting("COURSE", "/srv/unetlab/notebooks")
    # As the pupil, not as root: nothing that a pupil puts into her home can lead the copy elsewhere.
    copy = ["cp", "--recursive", "--no-clobber", f"{course}/.", "notebooks"]
    subprocess.run(["mkdir", "--parents", "notebooks"], cwd=home, **_as(account), check=True)
    subprocess.run(copy, cwd=home, **_as(account), check=False)  # a full disk must not keep anybody out


def _as(account: str) -> dict:
    user = pwd.getpwnam(account)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "umask": 0o077}


class AccountSpawner(LocalProcessSpawner):
    """A server as a process of the pupil's account. Without systemd, limits are those of each process.

    Memory: what a process may allocate (RLIMIT_DATA). Processor: the cores it may run on.
    """

    def user_env(self, env):
        user = pwd.getpwnam(self._account)
        return env | {"USER": user.pw_name, "HOME": user.pw_dir, "SHELL": user.pw_shell}

    def make_preexec_fn(self, name):
        become = super().make_preexec_fn(self._account)
        memory = int(self.mem_limit)
        cores = sorted(os.sched_getaffinity(0))
        count, first = max(1, round(self.cpu_limit)), pwd.getpwnam(self._account).pw_uid
        mine = {cores[(first + i) % len(cores)] for i in range(count)}

        def preexec():
            resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
            resource.setrlimit(resource.RLIMIT_NPROC, (PROCESSES, PROCESSES))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.sched_setaffinity(0, mine)
            os.umask(0o077)
            become()

        return preexec

    @property
    def _account(self) -> str:
        return ACCOUNT.format(USERNAME=self.user.name)


c = get_config()  # noqa: F821  (JupyterHub puts it there)

state = Path(setting("STATE", "/var/lib/unetlab-hub"))
state.mkdir(mode=0o700, parents=True, exist_ok=True)
c.JupyterHub.cookie_secret_file = str(state / "cookie_secret")
c.JupyterHub.db_url = f"sqlite:///{state / 'hub.sqlite'}"
c.ConfigurableHTTPProxy.pid_file = str(state / "proxy.pid")

c.JupyterHub.bind_url = "http://127.0.0.1:8000"  # a web server with a certificate stands before it
c.JupyterHub.authenticator_class = ClassAuthenticator
c.SharedPasswordAuthenticator.user_password, c.SharedPasswordAuthenticator.admin_password = passwords()
c.Authenticator.allow_all = True
c.Authenticator.admin_users = {setting("TEACHER", "teacher")}
c.Authenticator.username_pattern = NAMES

systemd = Path("/run/systemd/system").is_dir()
c.JupyterHub.spawner_class = "systemdspawner.SystemdSpawner" if systemd else AccountSpawner
c.SystemdSpawner.username_template = ACCOUNT
c.SystemdSpawner.isolate_tmp = True
c.SystemdSpawner.disable_user_sudo = True
c.SystemdSpawner.unit_extra_properties = {"UMask": "0077", "TasksMax": str(PROCESSES)}
c.Spawner.pre_spawn_hook = make_account
c.Spawner.cmd = [str(Path(sys.executable).with_name("jupyterhub-singleuser"))]
c.Spawner.notebook_dir = "~"
c.Spawner.default_url = "/lab/tree/notebooks"
c.Spawner.mem_limit = setting("MEMORY", "3") + "G"
c.Spawner.cpu_limit = float(setting("CPUS", "1"))
c.Spawner.start_timeout = c.Spawner.http_timeout = 120  # thirty servers that start at once take their time
c.Spawner.environment = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
if "UNETLAB_HUB_GPU_SHARE" in os.environ:
    share = float(os.environ["UNETLAB_HUB_GPU_SHARE"])
    c.Spawner.environment["PYTORCH_ALLOC_CONF"] = f"per_process_memory_fraction:{share}"

c.JupyterHub.services = [
    {
        "name": "idle-culler",
        "command": [sys.executable, "-m", "jupyterhub_idle_culler", f"--timeout={int(setting('IDLE', '3600'))}"],
    }
]
c.JupyterHub.load_roles = [
    {
        "name": "idle-culler",
        "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
        "services": ["idle-culler"],
    }
]
