"""The examples in docs/: what can be checked of them without a cluster."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from unetlab import cli

DOCS = Path(__file__).parent.parent / "docs"
SLURM = DOCS / "examples/slurm.sh"


def options_of(text):
    return set(re.findall(r"--(images|masks|out|batch-size|resume)\b", text))


def test_pytorchjob_is_yaml_and_calls_the_command():
    job = yaml.safe_load((DOCS / "examples/pytorchjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    for replica in job["spec"]["pytorchReplicaSpecs"].values():
        pod = replica["template"]["spec"]
        (container,) = pod["containers"]
        assert container["name"] == "pytorch"
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        command = container["command"]
        parsed = cli._parser().parse_args(command[command.index("unetlab") + 1 :])
        assert parsed.batch_size == 64 and parsed.out == "/data/runs/my_run"


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
def test_slurm_script_is_a_script():
    subprocess.run(["bash", "-n", str(SLURM)], check=True)
    assert options_of(SLURM.read_text()) == {"images", "masks", "out", "batch-size", "resume"}


def test_links_lead_somewhere():
    for page in [DOCS.parent / "README.md", DOCS.parent / "CONTRIBUTING.md", *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
    assert all("NOT RUN" in path.read_text() for path in (DOCS / "examples").iterdir())


def test_the_teacher_has_notes_on_every_notebook():
    noted = re.findall(r"^## (\w+)$", (DOCS / "teaching/notes.md").read_text(), re.MULTILINE)
    assert noted == sorted(path.stem for path in (DOCS.parent / "notebooks").glob("*.ipynb"))
