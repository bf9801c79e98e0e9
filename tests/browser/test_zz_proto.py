import pytest, time

CELL = """
import torch
import unetlab as ul

torch.manual_seed(0)
data = ul.load_dataset("cells", size=48, n=(64, 24, 1))
trainer = ul.Trainer(ul.UNet(base_channels=4, depth=2), data.train, data.val, early_stopping=ul.EarlyStopping(patience=30))
lab = ul.LiveLab(trainer, epochs=200)
lab.show()
"""


def test_it(open_notebook):
    t = time.time()
    nb = open_notebook(CELL)
    print("open", time.time() - t)
    t = time.time()
    p = nb.page
    p.get_by_role("button", name="Start", exact=True).click()
    nb.until("trainer.epoch > 3")
    print("4 epochs", time.time() - t)
    t = time.time()
    s = p.get_by_role("slider", name="Learning rate")
    s.focus()
    for i in range(10):
        s.press("ArrowRight")
    nb.until("trainer.optimizer.param_groups[0]['lr'] > 1.5e-3")
    print("moved", time.time() - t, nb.value("lab.instrument.status"))
    nb.shot("proto")
    p.get_by_role("button", name="Stop", exact=True).click()
    nb.until("not lab.session.training")
    nb.shot("proto2")
