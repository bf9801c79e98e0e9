"""The live lessons in a real browser: their own cells, played by the names of the controls, as a reader plays them.

A mission can be won by moving a slider, its score is that of the steps taken, and the recorded hand plays again.
"""

import nbformat
import pytest
from driver import ROOT, wait_until
from test_live_lab import RATE, STEP, Lab

pytestmark = pytest.mark.browser

RUN = "lab.session.trainer"


@pytest.fixture
def lesson(open_notebook):
    """The code cells of a lesson up to its first lab, run, and the cells after it, to be run one by one."""

    def lesson(name):
        notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
        lab = next(i for i, cell in enumerate(cells) if "lab.show()" in cell)
        page = open_notebook(*cells[: lab + 1])
        return page, Lab(page), iter(cells[lab + 1 :])

    return lesson


def verdict(notebook, cell):
    """What a cell says at its end, as the reader sees it."""
    notebook.add_and_run(cell)

    def verdicts():
        return [
            html
            for output in notebook.outputs()
            if "<strong>" in (html := str(output.get("data", {}).get("text/html")))
        ]

    wait_until(verdicts, 60, "a verdict")
    return verdicts()[-1]


def test_the_sprint_is_won_with_the_slider_and_plays_again(lesson):
    notebook, lab, cells = lesson("03d_live_learning_rate")
    lab.click("Start")
    notebook.until(f"{STEP} > 2")
    lab.click("Pause")
    lab.press("Learning rate", *["ArrowRight"] * 100)  # a hundred times 0.02 decades: from 1e-4 to 1e-2
    lab.click("Resume")
    notebook.until(f"abs({RATE} - 0.01) < 1e-4")
    notebook.until(f"max([0, *{RUN}.history.column('val_dice')]) >= 0.85", timeout=60)
    lab.click("Stop")
    lab.says("run 1: stopped")
    notebook.shot("sprint")

    said = verdict(notebook, next(cells))
    dices = notebook.value(f"{RUN}.history.column('val_dice')")
    goal = next(i for i, dice in enumerate(dices, 1) if dice >= 0.85)
    assert f"Dice {dices[goal - 1]:.2f} after {8 * goal} of 400 steps. Score {round(100 - 2 * goal)}." in said

    lab.click("Replay")
    lab.says("replay 1: stopped", 60)
    first, again = (f"lab.session.runs[{i}].trainer.history" for i in (0, 1))
    assert notebook.value(f"{first}.steps == {again}.steps and {first}.moves == {again}.moves")
    assert notebook.value(f"{again}.column('val_dice')") == dices
    notebook.shot("sprint_again")


def test_a_moved_patience_ends_the_run_and_is_judged(lesson):
    notebook, lab, cells = lesson("04c_live_patience")
    lab.click("Start")
    notebook.until(f"{RUN}.epoch >= 12", timeout=60)
    lab.click("Pause")
    lab.press("Patience", *["ArrowLeft"] * 55)  # from 60 to 5
    lab.click("Resume")
    notebook.until(f"{RUN}.early_stopping.patience == 5")
    notebook.until("not lab.session.training", timeout=60)
    lab.says("early stopping at epoch")
    notebook.shot("patience")

    for cell in cells:
        if "Thrift(" in cell:
            break
        notebook.add_and_run(cell)
    said = verdict(notebook, cell)
    history, whole = (notebook.value(f"{name}.epochs") for name in (f"{RUN}.history", "whole"))
    assert whole[: len(history)] == history and len(whole) == 60
    kept = [row for row in history if row["wait"] == 0][-1]
    assert history[-1]["wait"] == 5 and kept["epoch"] == len(history) - 5
    best = max(row["val_dice"] for row in whole)
    assert (
        f"epoch {kept['epoch']} was kept, with a Dice of {kept['val_dice']:.2f}; the whole run has {best:.2f}" in said
    )
    won = kept["val_dice"] >= best - 0.02 and len(history) <= 30
    assert (
        f"You paid for {2 * len(history)} of 120 steps. Score {round(100 * (1 - len(history) / 60))}." in said
    ) == won
