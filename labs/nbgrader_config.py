"""nbgrader for the graded labs. docs/teaching/labs.md tells how to release, collect and grade them.

python course.py labs                      release all three: labs/release/
python course.py labs autograde chapter2   any command of nbgrader
"""

from pathlib import Path

from nbformat import from_dict
from nbgrader.converters import Autograde
from nbgrader.preprocessors import OverwriteCells


class PutBackCells(OverwriteCells):
    """Restores what a pupil changed or deleted of the tests; nbgrader's own fails if the answer before is gone too."""

    def add_missing_grade_cells(self, nb, resources):
        notebook = self.gradebook.find_notebook(self.notebook_id, self.assignment_id)
        points = {cell.name: cell.max_score for cell in notebook.grade_cells}
        answers = {cell.name for cell in notebook.solution_cells}
        place = 0  # behind the last cell of the release that was found or put back
        for cell in notebook.source_cells:
            ids = [each.metadata.get("nbgrader", {}).get("grade_id") for each in nb.cells]
            if cell.name in ids:
                place = ids.index(cell.name) + 1
                continue
            restored = self.missing_cell_transform(cell, points.get(cell.name, 0), is_solution=cell.name in answers)
            if cell.name not in points:
                restored["metadata"]["nbgrader"]["grade"] = False
                del restored["metadata"]["nbgrader"]["points"]
            nb.cells.insert(place, from_dict(restored))
            place += 1
        return nb, resources


def preprocessors(trait: str) -> list:
    return Autograde.class_traits()[trait].default()


c = get_config()  # noqa: F821  (nbgrader puts it there)

c.CourseDirectory.root = str(Path(__file__).parent)
c.CourseDirectory.course_id = "unetlab"

c.ClearSolutions.code_stub = {"python": 'raise NotImplementedError("not attempted")'}
c.ClearSolutions.text_stub = "*Your answer in place of this line.*"

# Whose file it is, from its name in the archive of Moodle (Ada Lovelace_417_assignsubmission_file/lab2.ipynb) or of
# Canvas (lovelaceada_1201_88301_lab2.ipynb). Moodle's number stays in the name: two may be called Ada Lovelace.
c.FileNameCollectorPlugin.named_regexp = (
    r".*[/\\](?P<student_id>[^/\\]+?)(_assignsubmission_file[/\\_]+|_(LATE_)?\d+_\d+_)(?P<file_id>lab\d)"
)

c.Autograde.sanitize_preprocessors = [
    PutBackCells if each is OverwriteCells else each for each in preprocessors("sanitize_preprocessors")
]
c.PutBackCells.add_missing_cells = True
c.Execute.timeout = 60  # seconds for one cell; the longest of a lab computes for about ten
c.Execute.interrupt_on_timeout = True  # the cell gets no points, the next one is run
c.Execute.error_on_timeout = {
    "ename": "Timeout",
    "evalue": "this cell ran too long and was interrupted",
    "traceback": ["Timeout: this cell ran too long and was interrupted: a loop without an end?"],
}
# One line of each error, the reason, and not a traceback through the tests.
c.Execute.extra_arguments = ["--HistoryManager.hist_file=:memory:", "--InteractiveShell.xmode=Minimal"]
