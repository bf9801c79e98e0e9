"""The live lab in a real browser, driven as a reader drives it: by the names of its controls, with keyboard and mouse.

What a control does to the run is asked of the kernel. Each state leaves a screenshot in artifacts/browser.
"""

import os

import pytest
from driver import wait_until

pytestmark = pytest.mark.browser

SETUP = """\
import torch
import unetlab as ul

torch.manual_seed(0)
data = ul.load_dataset("cells", size=48, n=(48, 16, 1))

def make_lab(epochs=1000, **options):
    model = ul.UNet(base_channels=4, depth=2)
    options = {"early_stopping": ul.EarlyStopping(patience=40)} | options
    return ul.LiveLab(ul.Trainer(model, data.train, data.val, **options), epochs)
"""
SHOW = "lab = make_lab()\nlab.show()"
RATE = "lab.session.trainer.optimizer.param_groups[0]['lr']"
STEP = "lab.session.trainer.step"


class Lab:
    """The lab on the page."""

    def __init__(self, notebook, number=0):
        self.root = notebook.page.get_by_role("group", name="Live lab", exact=True).nth(number)
        self.root.wait_for(timeout=60_000)

    def slider(self, name):
        return self.root.get_by_role("slider", name=name, exact=True)

    def button(self, name):
        return self.root.get_by_role("button", name=name, exact=True)

    def click(self, name):
        self.button(name).click()

    def press(self, name, *keys):
        for key in keys:
            self.slider(name).press(key)

    @property
    def status(self):
        return self.root.get_by_role("status").inner_text()

    @property
    def problem(self):
        return "".join(self.root.get_by_role("alert").all_inner_texts())  # at once, for it may go away any moment

    def says(self, word, timeout=30):
        wait_until(lambda: word in self.status + self.problem, timeout, f"{word!r} in {self.status!r}")


@pytest.fixture
def lab_in(open_notebook):
    """A notebook with a lab in it."""

    def lab_in(*cells):
        notebook = open_notebook(SETUP, *(cells or [SHOW]))
        return notebook, Lab(notebook)

    return lab_in


# -------------------------------------------------------------------------------------------------------- one hand


def test_the_rate_is_moved_while_it_trains(lab_in):
    notebook, lab = lab_in()
    notebook.shot("ready")
    lab.click("Start")
    notebook.until(f"{STEP} > 6")
    assert "training" in lab.status and notebook.value(RATE) == 1e-3

    lab.press("Learning rate", *["ArrowRight"] * 10)
    notebook.until(f"{RATE} > 1.5e-3")
    step = notebook.value(STEP)
    notebook.until(f"{STEP} > {step} + 2")
    by_keyboard = notebook.value(RATE)
    assert by_keyboard == pytest.approx(10**-2.8)  # ten steps of 0.02 decades
    assert float(lab.slider("Learning rate").get_attribute("aria-valuetext")) == pytest.approx(by_keyboard, rel=0.05)

    box = lab.slider("Learning rate").bounding_box()
    mouse = notebook.page.mouse
    mouse.move(box["x"] + box["width"] * 0.53, box["y"] + box["height"] / 2)
    mouse.down()
    for share in (0.6, 0.65, 0.7):
        mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] / 2)
        notebook.page.wait_for_timeout(100)
    mouse.up()
    notebook.until(f"1e-2 < {RATE} < 3e-2")
    notebook.shot("training")

    lab.click("Back to schedule")
    notebook.until(f"{RATE} == 1e-3")
    wait_until(lambda: lab.slider("Learning rate").get_attribute("aria-valuetext") == "0.001", 10)
    step = notebook.value(STEP)
    notebook.until(f"{STEP} > {step} + 1")  # the step under way has been recorded, and one after it
    steps = notebook.value("[row['lr'] for row in lab.session.trainer.history.steps]")
    assert steps[0] == steps[-1] == 1e-3 and max(steps) > 1e-2
    lab.click("Stop")
    lab.says("run 1: stopped")
    notebook.shot("stopped")


def test_lower_patience_stops_the_run(lab_in):
    notebook, lab = lab_in()
    lab.press("Min delta", "End")
    notebook.until("lab.session.trainer.controls.pending == {'min_delta': 0.05}")
    lab.click("Start")
    notebook.until("lab.session.trainer.epoch >= 4")
    lab.press("Patience", "Home")  # one key: a run that stops at the first would not see a second
    notebook.until("not lab.session.training")
    lab.says("early stopping at epoch")
    history = "lab.session.trainer.history"
    assert notebook.value(f"[(m.name, m.new) for m in {history}.moves][-1]") == ("patience", 0)
    assert notebook.value("lab.session.trainer.epoch") < 40
    notebook.shot("early_stopping")


def test_pause_rewind_fork_and_replay(lab_in):
    notebook, lab = lab_in(SHOW.replace("()", "(epochs=12)", 1))
    lab.click("Start")
    notebook.until(f"{STEP} > 9")
    lab.click("Pause")
    lab.says("paused")
    notebook.page.wait_for_timeout(300)  # the step under way
    step = notebook.value(STEP)
    notebook.shot("paused")
    assert notebook.value(STEP) == step and lab.button("Pause").is_disabled()
    lab.click("Resume")
    lab.press("Learning rate", "ArrowRight", "ArrowRight")
    lab.says("finished")

    lab.press("Epoch", *["ArrowLeft"] * 8)
    wait_until(lambda: "epoch 4, worst first" in lab.root.inner_text(), 10)
    notebook.shot("scrubbed")
    lab.press("Learning rate", *["ArrowRight"] * 30)
    lab.click("Fork")
    lab.says("fork 1 at epoch 4: finished")
    notebook.shot("fork")
    runs = "[[row['val_loss'] for row in run.trainer.history.epochs] for run in lab.session.runs]"
    parent, fork = notebook.value(runs)
    assert parent[:4] == fork[:4] and parent[4] != fork[4] and len(parent) == len(fork) == 12

    lab.click("Replay")
    lab.says("replay 1: finished")
    notebook.shot("replay")
    assert notebook.value(runs) == [parent, fork, fork]

    lab.press("Epoch", "Home", "ArrowRight", "ArrowRight", "ArrowRight")
    lab.click("Rewind")
    notebook.until("lab.session.trainer.epoch == 3")
    lab.says("epoch 3 of 12")
    notebook.shot("rewound")
    lab.click("Start")
    lab.says("finished")
    assert notebook.value(runs)[2] == fork


# ---------------------------------------------------------------------------------------------- around the lab


def test_an_exception_in_the_run(lab_in):
    broken = """
class Broken(ul.CompoundLoss):
    def forward(self, logits, masks):
        if lab.session.trainer.step == 5:
            raise ArithmeticError("the sixth step went wrong")
        return super().forward(logits, masks)

lab = make_lab(loss=Broken())
lab.show()"""
    notebook, lab = lab_in(broken)
    lab.click("Start")
    lab.says("The run ended with ArithmeticError: the sixth step went wrong")
    assert "run 1: failed" in lab.status
    notebook.shot("exception")
    notebook.add_and_run("lab.wait()")
    assert notebook.errors() == ["ArithmeticError: the sixth step went wrong"]
    notebook.expected = notebook.errors()


def test_the_page_is_loaded_again(lab_in):
    notebook, lab = lab_in()
    lab.click("Start")
    lab.press("Learning rate", *["ArrowRight"] * 25)
    notebook.until("lab.session.trainer.epoch > 3")
    notebook.save()
    notebook.open()
    lab = Lab(notebook)
    lab.says("training")
    step = notebook.value(STEP)
    notebook.until(f"{STEP} > {step} + 4")
    assert lab.root.get_by_role("img").count() == 5  # four charts and the strip
    notebook.shot("reloaded")
    lab.press("Learning rate", "Home")
    notebook.until(f"{RATE} < 2e-6")
    lab.click("Stop")
    lab.says("stopped")


def test_two_labs_in_one_kernel(lab_in):
    notebook, one = lab_in(SHOW, "other = make_lab()\nother.show()")
    other = Lab(notebook, 1)
    one.click("Start")
    other.click("Start")
    notebook.until("lab.session.trainer.epoch > 1 and other.session.trainer.epoch > 1")
    other.press("Learning rate", *["ArrowRight"] * 10)
    notebook.until("other.session.trainer.optimizer.param_groups[0]['lr'] > 1e-3")
    one.press("Patience", "End")
    notebook.until("lab.session.trainer.early_stopping.patience == 60")
    assert notebook.value(RATE) == 1e-3
    assert notebook.value("other.session.trainer.early_stopping.patience") == 40
    other.click("Stop")
    other.says("stopped")
    assert "training" in one.status and notebook.value("lab.session.training")
    one.root.scroll_into_view_if_needed()
    notebook.shot("two_labs")
    one.click("Stop")
    one.says("stopped")


def test_the_kernel_is_restarted(lab_in):
    notebook, lab = lab_in()
    lab.click("Start")
    notebook.until(f"{STEP} > 4")
    process = notebook.value("__import__('os').getpid()")
    notebook.run("async () => { await panel.sessionContext.restartKernel(); }")
    with pytest.raises(ProcessLookupError):  # and with it, all its threads are gone
        os.kill(process, 0)
    notebook.run_all()
    lab = Lab(notebook)
    assert "ready" in lab.status
    lab.click("Start")
    notebook.until(f"{STEP} > 4")
    lab.click("Stop")
    lab.says("stopped")


def test_run_all(lab_in):
    """Nobody touches anything: a script is the hand, and a picture stays in the notebook."""
    cells = "lab = make_lab(epochs=8, scheduler='cosine', early_stopping=None)\nlab.show()", "lab.start()", "lab.wait()"
    notebook, lab = lab_in(*cells)
    lab.says("finished")
    outputs = [output for output in notebook.outputs() if "image/png" in output.get("data", {})]
    assert len(outputs) == 1
    alt = outputs[0]["metadata"]["image/png"]["alt"]
    assert alt.startswith("Over 8 epochs the training loss goes from")
    assert notebook.page.get_by_text(alt).is_visible()
    # The cosine ended at 0, which is off any log scale.
    assert notebook.value(RATE) == 0
    rate = lab.slider("Learning rate")
    assert rate.get_attribute("aria-valuetext") == "0" and float(rate.input_value()) == -6
    assert lab.slider("Patience").is_disabled() and lab.slider("Min delta").is_disabled()
    notebook.page.get_by_text(alt).scroll_into_view_if_needed()
    notebook.shot("run_all")


def test_the_keyboard_is_enough(lab_in):
    notebook, lab = lab_in()
    keyboard = notebook.page.keyboard

    def focused():
        return notebook.run("() => document.activeElement.ariaLabel || document.activeElement.textContent")

    lab.button("Start").focus()
    keyboard.press("Enter")
    notebook.until(f"{STEP} > 4")
    order = []
    for _ in range(11):
        keyboard.press("Tab")
        order.append(focused())
    assert order == [
        *("Pause", "Stop", "Learning rate", "Back to schedule", "Patience", "Min delta"),
        *("Epoch", "Rewind", "Fork", "Replay"),
        order[-1],
    ]
    assert order[-1] not in order[:-1]  # the way out of the lab
    for _ in range(7):
        keyboard.press("Shift+Tab")
    assert focused() == "Back to schedule"
    keyboard.press("Shift+Tab")
    for _ in range(5):
        keyboard.press("ArrowUp")
    notebook.until(f"{RATE} > 1e-3")
    notebook.shot("keyboard")
    keyboard.press("Shift+Tab")
    assert focused() == "Stop"
    keyboard.press("Space")
    notebook.until("not lab.session.training")
    assert notebook.run("() => panel.content.widgets.length") == 2  # no key reached the notebook itself


# ----------------------------------------------------------------------------------------------------- its looks

# Width and height. Twice as large is half as many CSS pixels; the window is high, so that the screenshot shows it all.
SIZES = {"100": (1400, 1100), "200": (700, 1500), "narrow": (420, 2100)}


def test_its_looks(lab_in):
    """Light and dark, at 100 % and 200 %, on a narrow page: nothing is cut, nothing lies on anything else."""
    notebook, lab = lab_in(
        "lab = make_lab(epochs=10, scheduler='cosine')\nlab.show()", "lab.start()\nlab.session.wait()"
    )
    lab.says("finished")
    lab.press("Epoch", *["ArrowLeft"] * 6)
    lab.press("Learning rate", *["ArrowRight"] * 80)
    lab.click("Fork")
    lab.says("fork 1 at epoch 4: finished")
    problems = []
    for size, (width, height) in SIZES.items():
        notebook.page.set_viewport_size({"width": width, "height": height})
        for theme in ("JupyterLab Light", "JupyterLab Dark"):
            notebook.run(
                "async (theme) => { await jupyterapp.commands.execute('apputils:change-theme', { theme }); }", theme
            )
            notebook.page.wait_for_timeout(500)
            lab.root.screenshot(path=notebook.path_of(f"looks_{size}_{theme.split()[-1].lower()}"))
            problems += [f"{size}, {theme}: {problem}" for problem in notebook.run(MISPLACED)]
    assert not problems, "\n".join(problems)


# Controls, captions, charts ... that are cut, stick out of the lab, or overlap.
MISPLACED = """() => {
    const lab = document.querySelector('.ul-instrument'), outer = lab.getBoundingClientRect(), problems = [];
    const name = (node) => `${node.className} ${node.textContent.slice(0, 30)}`;
    const shown = [...lab.querySelectorAll('*')].filter((node) => node.getClientRects().length);
    for (const node of shown) {
        const box = node.getBoundingClientRect();
        if (box.left < outer.left - 1 || box.right > outer.right + 1) problems.push(`sticks out: ${name(node)}`);
        if (node.scrollWidth > node.clientWidth + 1 && node.clientWidth) problems.push(`cut: ${name(node)}`);
    }
    const leaves = shown.filter((node) => !node.children.length);
    for (const [i, a] of leaves.entries())
        for (const b of leaves.slice(i + 1)) {
            const p = a.getBoundingClientRect(), q = b.getBoundingClientRect();
            const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
            const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
            if (wide > 1 && high > 1) problems.push(`overlap: ${name(a)} / ${name(b)}`);
        }
    return problems;
}"""
