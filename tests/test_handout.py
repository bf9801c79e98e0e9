"""The page to print of a notebook: all of its figures, each with its caption, and no answer of its quiz."""

import re
from pathlib import Path

import handout
import nbformat
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def text_of(html):
    return " ".join(re.sub(r"<[^>]+>|&#?\w+;|[*`]", " ", html).split())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_page_has_the_figures_and_the_questions_of_its_notebook(path):
    notebook = nbformat.read(path, 4)
    page = handout.handout(notebook)
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    shown = [about["alt"] for cell in notebook.cells if cell.cell_type == "code" for _, about in handout.pictures(cell)]
    captions = re.findall(r"<b>Figure (\d+)\.</b> (.+?)</figcaption>", page)
    assert 0 < len(captions) <= len(shown) and [int(n) for n, _ in captions] == list(range(1, len(captions) + 1))
    exercises = re.search(r"^## Exercises?$(.*?)^## ", source, re.MULTILINE | re.DOTALL)
    assert len(captions) == len(shown) or exercises  # a figure is left out with the exercises alone

    questions = source[source.index("## Quiz") : source.index("## What we learnt")]
    assert (
        len(re.findall(r'<div class="question">', page)) == len(re.findall(r"^\*\*\d+\. ", questions, re.MULTILINE)) > 3
    )
    assert page.count("<li>", page.index('<div class="question">')) >= questions.count("<summary>")
    assert not re.search("[✓✗]", page)
    for answer in re.findall(r"</summary>\s+[✓✗] (.+?)\s+</details>", questions, re.DOTALL):
        assert text_of(handout.words(answer)) not in text_of(page)


def test_a_page_needs_no_other_file():
    page = handout.handout(nbformat.read(ROOT / "notebooks" / "02b_losses.ipynb", 4))
    assert not re.search(r"<(script|link|a)\b|src=\"(?!data:)", page)
    assert "size: A4" in page and page.index("One pixel") < page.index("Figure 1.") < page.index("Soft Dice")
    assert "to read cross-entropy and Dice pixel by pixel" in page and "Solution" not in page


def test_a_heading_without_a_figure_is_left_out_and_a_link_is_its_text():
    markdown, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    picture = nbformat.v4.new_output(
        "display_data", {"image/png": "QUJD\n"}, metadata={"image/png": {"alt": "A < B.", "width": 600}}
    )
    cells = [
        markdown("# One & two\n\n## What you will learn\n\n* from [A2](A2.ipynb)"),
        markdown("## Silent\n\n```python\n# no heading\n```"),
        markdown("## Shown\n\nText.\n\n### Nothing here\n\n### The picture"),
        code("", outputs=[picture]),
        markdown("## Exercise 1: yours"),
        code("", outputs=[picture]),
        markdown("## Quiz\n\n**1. `a` or b?**\n\n<details>\n<summary>`a`</summary>\n\n✓ Yes.\n\n</details>"),
    ]
    body = handout.handout(nbformat.v4.new_notebook(cells=cells)).partition("<body>")[2]
    assert "<h1>One &amp; two</h1>" in body and "<li>from A2</li>" in body
    assert re.findall(r"<h[23]>(.+?)</h", body) == ["What you will learn", "Shown", "The picture", "Quiz"]
    assert body.count("<figure>") == 1 and 'src="data:image/png;base64,QUJD" style="width: 102mm"' in body
    assert "A &lt; B." in body and "<b>1. <code>a</code> or b?</b><ul><li><code>a</code></li></ul>" in body


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(handout, "ROOT", tmp_path)
    monkeypatch.setattr(handout, "PAGES", tmp_path / "pages")
    assert handout.main(["04c_live_patience"]) == 0
    assert [page.name for page in (tmp_path / "pages").iterdir()] == ["04c_live_patience.html"]
    assert handout.main(["04z"]) == 2
    error = capsys.readouterr().err
    assert (
        error.startswith("error: there is no notebook 04z; choose from 00_read_the_article, ")
        and error.count("\n") == 1
    )
