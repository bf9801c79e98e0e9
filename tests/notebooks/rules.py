"""The rules that every notebook keeps. CONTRIBUTING.md tells them to authors; test_hygiene.py asks them of each file.

A rule takes a notebook and yields one sentence for each place where it is broken. What the words mean:
a *line of code* is neither blank nor a comment; *prose* is what stands in a Markdown cell outside headings, tables,
code and folded blocks.
"""

import ast
import base64
import re
from statistics import median

import nbformat
from execute import METADATA, WIDGET_VIEW

SKELETON = ["What you will learn", "What you need", "Exercise", "Quiz", "What we learnt", "References"]
FILE_BYTES, IMAGE_BYTES = 1_500_000, 400_000

FOLDED = re.compile(r"<details.*?</details>", re.DOTALL)
SOLUTION = re.compile(r"<details[^>]*>\s*<summary>[^<]*solution.*?</details>", re.DOTALL | re.IGNORECASE)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
NOT_PROSE = re.compile(r"^#.*$|^ *\|.*$|<[^>]+>|!\[[^]]*\]\([^)]*\)", re.MULTILINE)  # headings, tables, tags, pictures
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
MINUTES = re.compile(r"(\d+(?:\.\d+)?) (second|minute)s? on (?:an? |two |2 )?(CPU|GPU)")
MACHINE = [
    (re.compile(r"(?<![\w.:/])/(?:home|Users|root|tmp|var|opt|usr|mnt|work|content)/\w+"), "an absolute path"),
    (re.compile(r"\b[A-Z]:\\{1,2}\w+"), "an absolute path"),
    (re.compile(r"\b0x[0-9a-f]{8,}"), "a memory address"),
]


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def markdown(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def solutions(notebook):
    """The Python code of each folded solution, in the notebook's order."""
    folded = [block for source in markdown(notebook) for block in SOLUTION.findall(source)]
    return ["\n".join(PYTHON.findall(block)) for block in folded]


def words_of_prose(source):
    return len(NOT_PROSE.sub("", FENCED.sub("", FOLDED.sub("", source))).split())


def lines_of_code(source):
    return len([line for line in source.splitlines() if line.strip() and not line.strip().startswith("#")])


def outputs_are_stored(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"code cells were not run once each, from top to bottom: {counts}"


def no_errors(notebook):
    for output in outputs(notebook):
        if output.output_type == "error":
            yield f"a stored error: {output.ename}: {output.evalue}"
    for cell in code_cells(notebook):
        if "raises-exception" in cell.metadata.get("tags", []):
            yield "tag raises-exception: it stores the author's paths; use try/except and print the message"


def clean_metadata(notebook):
    if notebook.metadata != METADATA:
        yield f"notebook metadata: {sorted(notebook.metadata)} must be exactly those that execute.py writes"
    for cell in notebook.cells:
        if set(cell.metadata) - {"tags"}:
            yield f"cell metadata besides tags (time stamps?): {sorted(cell.metadata)}"


def no_widget_views(notebook):
    for output in outputs(notebook):
        if WIDGET_VIEW in output.get("data", {}):
            yield "a widget view, which is dead without its kernel"


def nothing_of_this_machine(notebook):
    texts = [cell.source for cell in notebook.cells]
    for output in outputs(notebook):
        texts += [str(data) for kind, data in output.get("data", {}).items() if not kind.startswith("image/")]
        texts.append(output.get("text", ""))
    for text in texts:
        for pattern, what in MACHINE:
            yield from (f"{what}: {found}" for found in pattern.findall(text))


def light(notebook):
    size = len(nbformat.writes(notebook).encode())
    if size > FILE_BYTES:
        yield f"the file has {size:,} bytes; {FILE_BYTES:,} are the limit"
    for output in outputs(notebook):
        for kind in output.get("data", {}).keys() & {"image/png", "image/jpeg"}:
            size = len(base64.b64decode(output.data[kind]))
            if size > IMAGE_BYTES:
                yield f"a picture has {size:,} bytes; {IMAGE_BYTES:,} are the limit"


def skeleton(notebook):
    headings = [match for source in markdown(notebook) for match in HEADING.findall(FENCED.sub("", source))]
    if not headings or headings[0][0] != "#":
        yield "the first heading must be the title, with one #"
    titles = [title for _, title in headings]
    positions = []
    for wanted in SKELETON:
        found = [place for place, title in enumerate(titles) if title.startswith(wanted)]
        if not found:
            yield f"no heading that begins with '{wanted}'"
        positions += found[-1:]
    if positions != sorted(positions):
        yield f"the headings of the skeleton stand in another order than {SKELETON}"


def stated_time(notebook):
    stated = {
        device: float(n) * (60 if unit == "minute" else 1)
        for n, unit, device in MINUTES.findall("\n".join(markdown(notebook)))
    }
    for device in {"CPU", "GPU"} - stated.keys():
        yield f"no time on a {device}; write: 'Runs in about 1 minute on two CPU cores, 20 seconds on a GPU.'"
    if stated.get("CPU", 0) > 120:
        yield f"{stated['CPU']:.0f} s on the CPU; two minutes are the budget"


def short_code(notebook):
    lines = [lines_of_code(cell.source) for cell in code_cells(notebook)]
    if lines and median(lines) > 8:
        yield f"the median code cell has {median(lines):g} lines of code; 8 are the limit"
    if lines and max(lines) > 40:
        yield f"a code cell has {max(lines)} lines of code: move a part of it into the package"


def at_most_two_code_cells_in_a_row(notebook):
    kinds = "".join(cell.cell_type[0] for cell in notebook.cells)
    if "ccc" in kinds:
        yield f"more than two code cells in a row: {kinds}"


def prose_of_readable_length(notebook):
    words = [words_of_prose(source) for source in markdown(notebook)]
    middle = median([n for n in words if n] or [0])
    if not 35 <= middle <= 75:
        yield f"the median cell of prose has {middle:g} words; 35 to 75 read well"


def pictures_have_alt_text(notebook):
    for output in outputs(notebook):
        for kind in output.get("data", {}).keys() & {"image/png", "image/jpeg", "image/svg+xml"}:
            if len(output.metadata.get(kind, {}).get("alt", "").split()) < 5:
                yield "a figure without alt text that says what it shows, in five words or more"
    for source in markdown(notebook):
        if re.search(r"!\[\s*\]\(", source):
            yield "a picture in Markdown without alt text"


def solutions_are_folded(notebook):
    if not solutions(notebook):
        yield "no folded solution: <details><summary>Solution</summary> ... ```python ... ``` ... </details>"
    for code in solutions(notebook):
        try:
            ast.parse(code)
        except SyntaxError as error:
            yield f"a solution is not Python: {error}"


RULES = [
    outputs_are_stored,
    no_errors,
    clean_metadata,
    no_widget_views,
    nothing_of_this_machine,
    light,
    skeleton,
    stated_time,
    short_code,
    at_most_two_code_cells_in_a_row,
    prose_of_readable_length,
    pictures_have_alt_text,
    solutions_are_folded,
]
