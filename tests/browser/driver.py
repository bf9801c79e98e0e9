"""A real JupyterLab and a real browser, on this machine only, with settings of their own; and a notebook in a page.

Used by the browser tests and by benchmarks/live_lab.py.
"""

import ast
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[2]
ARTIFACTS = ROOT / "artifacts" / "browser"  # the screenshots of the last run; not committed
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NO_CHROMIUM = (
    "no Chromium for the live lab: sudo apt install chromium (Debian, Ubuntu), or Chrome from google.com/chrome"
)
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync --force-color-profile=srgb"

LAB_CONFIG = {
    "IdentityProvider": {"token": "unetlab"},
    "LabApp": {
        "expose_app_in_browser": True,
        "extension_manager": "readonly",
        "news_url": None,
        "check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    },
}
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
NO_ANSWER = "new Promise((_, fail) => setTimeout(() => fail(new Error('no answer in two minutes')), 120000))"
NO_NEWS = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}


@contextmanager
def jupyterlab(home, root):
    """JupyterLab on loopback, on a port that is free, its settings in ``home``, its notebooks in ``root``: its address."""
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    names += ("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    environment = {"OMP_NUM_THREADS": "1"} | os.environ | {name: str(home / name.lower()) for name in names}
    environment["PYTHONPATH"] = str(ROOT)
    config = home / "jupyter_config_dir"
    (config / "labconfig").mkdir(parents=True)
    (config / "jupyter_lab_config.json").write_text(json.dumps(LAB_CONFIG))
    (config / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(NO_NEWS))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}"]
    command += [f"--ServerApp.root_dir={root}"] + ["--allow-root"] * (os.name == "posix" and os.geteuid() == 0)
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=root)
    try:
        address = f"http://127.0.0.1:{port}/lab?token=unetlab"
        wait_until(lambda: server.poll() is not None or answers(address), 120)
        assert server.poll() is None, (home / "log").read_text()
        yield address
    finally:
        server.terminate()  # it ends its kernels first
        server.wait(60)


def answers(address):
    try:
        return urllib.request.urlopen(address, timeout=10).status == 200
    except OSError:
        return False


@contextmanager
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


def write_notebook(path, cells):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=KERNEL)
    nbformat.write(notebook, path)


class Notebook:
    """A notebook in a page. What a reader does goes through the page; ``value`` asks the kernel, as a second cell would."""

    def __init__(self, page, address, name):
        self.page, self.address, self.name = page, address, name
        self.problems = []  # errors of the page itself
        self.expected = []  # errors that cells are meant to show
        page.on("pageerror", lambda error: self.problems.append(f"{name}: {error}"))

    def open(self):
        self.page.goto(self.address.replace("/lab?", f"/lab/workspaces/{Path(self.name).stem}?") + "&reset")
        self.run(
            """async (name) => {
            await jupyterapp.restored;
            window.panel = await jupyterapp.commands.execute('docmanager:open', { path: name });
            await panel.context.ready;
            await panel.sessionContext.ready;
            jupyterapp.shell.collapseLeft();
        }""",
            self.name,
        )

    def run(self, script, argument=None):
        """Run a script in the page; JupyterLab itself is there as ``jupyterapp``, the notebook as ``panel``."""
        self.page.wait_for_function("() => window.jupyterapp !== undefined", timeout=60_000)
        return self.page.evaluate(f"(argument) => Promise.race([({script})(argument), {NO_ANSWER}])", argument)

    def run_all(self):
        self.run("async () => { await jupyterapp.commands.execute('notebook:run-all-cells'); }")

    def value(self, expression):
        """The value of a Python expression in the kernel, while the lab trains."""
        reply = self.run(
            """async (expression) => {
            const request = { code: '', silent: true, user_expressions: { value: expression } };
            const reply = await panel.sessionContext.session.kernel.requestExecute(request).done;
            return reply.content.user_expressions.value;
        }""",
            expression,
        )
        assert reply["status"] == "ok", reply
        return ast.literal_eval(reply["data"]["text/plain"])

    def until(self, expression, timeout=30):
        """Wait until an expression in the kernel is true."""
        wait_until(lambda: self.value(expression), timeout, expression)

    def outputs(self):
        cells = self.run("() => panel.content.model.toJSON().cells")
        return [output for cell in cells for output in cell["outputs"]]

    def errors(self):
        outputs = self.outputs()
        texts = [f"{o['ename']}: {o['evalue']}" for o in outputs if o["output_type"] == "error"]
        return texts + ["".join(o["text"]) for o in outputs if o.get("name") == "stderr"]

    def add_and_run(self, code):
        """A new last cell, run."""
        self.run(
            """async (code) => {
            panel.content.activeCellIndex = panel.content.widgets.length - 1;
            await jupyterapp.commands.execute('notebook:insert-cell-below');
            panel.content.activeCell.model.sharedModel.setSource(code);
            await jupyterapp.commands.execute('notebook:run-cell');
        }""",
            code,
        )

    def save(self):
        self.run("async () => { await panel.context.save(); }")

    def path_of(self, name):
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        return ARTIFACTS / f"{name}.png"

    def shot(self, name):
        """A screenshot of the notebook as far as the window shows it."""
        self.page.locator(".jp-NotebookPanel-notebook").first.screenshot(path=self.path_of(name))

    def close(self):
        """End the kernel and the page; returns what went wrong."""
        errors = [f"{self.name}: {error}" for error in self.errors() if error not in self.expected]
        self.run("async () => { await panel.sessionContext.shutdown(); }")
        self.page.close()
        return errors + self.problems


def wait_until(true, timeout, what="what was waited for"):
    end = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < end, f"{what} did not come true in {timeout} s"
        time.sleep(0.1)
