"""A page to print for each notebook: its goals, its figures with their captions, what it teaches, its quiz without answers.

    python course.py handout [NAME ...]        such as 02b_losses; without a name, all notebooks

It reads the stored notebook and runs nothing. The pages go to artifacts/handouts/, one HTML file each, laid out for A4:
open one in a browser and print it.
"""

import argparse
import re
import sys
from html import escape
from pathlib import Path

import mistune
import nbformat

ROOT = Path(__file__).parents[1]
NOTEBOOKS, PAGES = ROOT / "notebooks", ROOT / "artifacts" / "handouts"
NOT_PRINTED = ("What you need", "Exercise", "References")  # sections; exercises are for the screen, and hold solutions
IN_WORDS = ("What you will learn", "What we learnt")  # their text is printed; of the other sections, the figures
MILLIMETRES = 0.17  # of paper for a pixel: the widest figures, of 1,050 pixels, just fit

HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
FOLDED = re.compile(r"<details.*?</details>", re.DOTALL)
LINK = re.compile(r"\[([^]]+)\]\([^)]*\)")  # on paper only its text is of use
QUESTION = re.compile(r"^\*\*(\d+\.) (.+)\*\*$", re.MULTILINE)
OPTION = re.compile(r"<summary>(.+?)</summary>")

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
@page {{ size: A4; margin: 14mm 15mm; }}
body {{ font: 10.5pt/1.4 system-ui, sans-serif; max-width: 180mm; margin: 0 auto; color: #111; }}
h1 {{ font-size: 18pt; line-height: 1.2; }}
h2, h3 {{ break-after: avoid; }}
h2 {{ font-size: 13pt; margin: 6mm 0 1mm; border-bottom: 0.3mm solid #999; }}
h3 {{ font-size: 11pt; margin: 3mm 0 0; }}
figure {{ margin: 3mm 0 5mm; break-inside: avoid; }}
img {{ max-width: 100%; }}
ul {{ margin: 1mm 0; padding-left: 6mm; }}
.question {{ margin: 4mm 0; break-inside: avoid; }}
.question ul {{ list-style: "\\2610\\00a0"; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def handout(notebook) -> str:
    """The page of a stored notebook, as HTML that needs no other file."""
    title, section, body, figures = "", "", [], 0
    headings: dict[str, str] = {}  # not yet printed: a heading is, once something stands under it

    def add(*lines):
        body.extend(f"<h{len(marks)}>{words(heading)}</h{len(marks)}>" for marks, heading in headings.items())
        headings.clear()
        body.extend(lines)

    for cell in notebook.cells:
        if cell.cell_type == "code":
            for picture in pictures(cell) if not section.startswith(NOT_PRINTED) else ():
                figures += 1
                add(figure(*picture, figures))
            continue
        # What stands before the first heading still belongs to the section; then come (marks, heading, text) in turn.
        before, *rest = HEADING.split(FENCED.sub("", cell.source))
        for marks, heading, text in [("", "", before), *zip(rest[::3], rest[1::3], rest[2::3], strict=True)]:
            if marks == "#":
                title = heading
            elif marks == "##":
                section, headings = heading, {marks: heading}
            elif marks:
                headings["###"] = heading
            if section in IN_WORDS and text.strip():
                add(mistune.html(LINK.sub(r"\1", FOLDED.sub("", text))))
            elif section == "Quiz":
                add(*quiz(text))
    return PAGE.format(title=escape(title), body="\n".join([f"<h1>{words(title)}</h1>", *body]))


def words(text: str) -> str:
    """A line of Markdown as HTML, without a paragraph around it."""
    return mistune.html(LINK.sub(r"\1", text.strip())).strip().removeprefix("<p>").removesuffix("</p>")


def pictures(cell):
    """The pictures that a cell shows: PNG (base64) and what is known of it."""
    for output in cell.outputs:
        if "image/png" in output.get("data", {}):
            yield output.data["image/png"], output.metadata["image/png"]


def figure(png: str, about: dict, number: int) -> str:
    image = (
        f'<img src="data:image/png;base64,{"".join(png.split())}" style="width: {about["width"] * MILLIMETRES:.0f}mm"'
    )
    caption = f"<b>Figure {number}.</b> {escape(about['alt'])}"  # it says what the picture shows, so alt stays empty
    return f'<figure>{image} alt=""><figcaption>{caption}</figcaption></figure>'


def quiz(text: str) -> list[str]:
    """Questions with their options, and a box to tick before each."""
    _, *rest = QUESTION.split(text)
    return [
        f'<div class="question"><b>{number} {words(question)}</b><ul>'
        + "".join(f"<li>{words(option)}</li>" for option in OPTION.findall(options))
        + "</ul></div>"
        for number, question, options in zip(rest[::3], rest[1::3], rest[2::3], strict=True)
    ]


def main(names: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="course.py handout", description="pages to print, for A4")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a notebook, such as 02b_losses; all if none is named")
    there = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    names = parser.parse_args(names).names or there
    if unknown := [name for name in names if name not in there]:
        print(f"error: there is no notebook {unknown[0]}; choose from {', '.join(there)}", file=sys.stderr)
        return 2
    PAGES.mkdir(parents=True, exist_ok=True)
    for name in names:
        page = PAGES / f"{name}.html"
        page.write_text(handout(nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4)), encoding="utf-8")
        print(page.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
