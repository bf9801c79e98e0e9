"""JupyterLab and Chromium for the browser tests, started once.

Where there is no Chromium the tests are skipped, and the summary says how to get one; in continuous integration they fail.
"""

import os

import pytest
from driver import CHROMIUM, NO_CHROMIUM, Notebook, chromium, jupyterlab, write_notebook


@pytest.fixture(scope="session")
def jupyter(tmp_path_factory):
    """The address of a JupyterLab, and the folder of its notebooks."""
    root = tmp_path_factory.mktemp("notebooks")
    with jupyterlab(tmp_path_factory.mktemp("jupyter"), root) as address:
        yield address, root


@pytest.fixture(scope="session")
def pages():
    """Where pages are opened; they share their cache."""
    if CHROMIUM is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(NO_CHROMIUM)
    with chromium() as browser, browser.new_context(viewport={"width": 1400, "height": 1050}) as context:
        yield context


@pytest.fixture
def open_notebook(pages, jupyter, request):
    """Write a notebook of these cells, open it in a page of its own, run it all. At the end no cell may show an error."""
    opened = []

    def open_it(*cells):
        address, root = jupyter
        name = f"{request.node.name}_{len(opened)}.ipynb"
        write_notebook(root / name, cells)
        opened.append(Notebook(pages.new_page(), address, name))
        opened[-1].open()
        opened[-1].run_all()
        return opened[-1]

    yield open_it
    problems = [problem for notebook in opened for problem in notebook.close()]
    assert not problems, "\n".join(problems)
