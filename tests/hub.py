"""A JupyterHub of deploy/ on loopback, and a person with a browser's cookies who logs in to it."""

import asyncio
import json
import os
import secrets
import socket
import subprocess
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import requests
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

DEPLOY = Path(__file__).parent.parent / "deploy"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def running_hub(python: Path, folder: Path, settings: dict):
    """The address of a hub that runs ``deploy/jupyterhub_config.py`` with these settings; it ends with the block."""
    public, hub, proxy = (free_port() for _ in range(3))
    command = [python.with_name("jupyterhub"), "-f", DEPLOY / "jupyterhub_config.py"]
    command += [f"--JupyterHub.bind_url=http://127.0.0.1:{public}", f"--JupyterHub.hub_port={hub}"]
    command += [f"--ConfigurableHTTPProxy.api_url=http://127.0.0.1:{proxy}"]
    command += ["--Spawner.args=['--LabApp.expose_app_in_browser=True']"]  # so that the browser test can ask JupyterLab
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | settings
    with (folder / "hub.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
    address = f"http://127.0.0.1:{public}"
    try:
        until(lambda: server.poll() is not None or answers(f"{address}/hub/login"), 120, folder / "hub.log")
        assert server.poll() is None, (folder / "hub.log").read_text()
        yield address
    finally:
        server.terminate()  # it ends its servers and its proxy first
        server.wait(120)


def answers(address: str) -> bool:
    try:
        return requests.get(address, timeout=10).ok
    except requests.ConnectionError:
        return False


def until(true, seconds: float, log: Path):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, log.read_text()[-4000:]
        time.sleep(0.5)


class Person:
    """Somebody at a browser. ``status`` is the answer to her log-in."""

    def __init__(self, address: str, name: str, password: str):
        self.address, self.name = address, name
        self.browser = requests.Session()
        self.browser.headers["Connection"] = "close"  # no socket stays open when the test is over
        self.browser.get(f"{address}/hub/login", timeout=60)
        form = {"username": name, "password": password, "_xsrf": self._token("/hub/")}
        self.status = self.browser.post(f"{address}/hub/login", data=form, timeout=300).status_code

    def _token(self, path: str) -> str:
        return next(cookie.value for cookie in self.browser.cookies if cookie.name == "_xsrf" and cookie.path == path)

    def get(self, path: str) -> requests.Response:
        return self.browser.get(self.address + path, timeout=120)

    def start(self, log: Path) -> None:
        """Start her server and wait until it answers."""
        self.get("/hub/spawn")
        page = f"{self.address}/user/{self.name}/lab"
        until(lambda: (answer := self.browser.get(page, timeout=120)).ok and answer.url.startswith(page), 180, log)

    def server(self, method: str, path: str, of: str | None = None, **options) -> requests.Response:
        """A request to her own server, or to somebody else's."""
        base = f"/user/{of or self.name}/"
        headers = {}
        if method != "GET":
            self.get(base + "lab")
            headers["X-XSRFToken"] = self._token(base)
        return self.browser.request(method, self.address + base + path, headers=headers, timeout=120, **options)

    def run(self, code: str) -> str:
        """What a kernel of hers prints, errors included."""
        kernel = self.server("POST", "api/kernels", json={"name": "python3"}).json()["id"]
        try:
            return asyncio.run(self._run(kernel, code))
        finally:
            self.server("DELETE", f"api/kernels/{kernel}")

    async def _run(self, kernel: str, code: str) -> str:
        path = f"/user/{self.name}/api/kernels/{kernel}/channels"
        mine = [cookie for cookie in self.browser.cookies if path.startswith(cookie.path)]
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in mine)
        address = self.address.replace("http", "ws", 1) + path
        channel = await websocket_connect(HTTPRequest(address, headers={"Cookie": cookies}))
        header = {"msg_id": uuid.uuid4().hex, "session": secrets.token_hex(8), "username": self.name, "version": "5.3"}
        header["msg_type"] = "execute_request"
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False, "user_expressions": {}}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        await channel.write_message(json.dumps(message))
        said = ""
        while True:
            reply = json.loads(await asyncio.wait_for(channel.read_message(), 120))
            if reply["parent_header"].get("msg_id") != header["msg_id"]:
                continue
            if reply["msg_type"] == "stream":
                said += reply["content"]["text"]
            elif reply["msg_type"] == "error":
                said += f"{reply['content']['ename']}: {reply['content']['evalue']}\n"
            elif reply["msg_type"] == "status" and reply["content"]["execution_state"] == "idle":
                break
        channel.close()
        while await channel.read_message() is not None:  # until it is closed
            pass
        return said
