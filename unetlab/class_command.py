"""unetlab class: the hands of a class, for the projector."""

import sys
from pathlib import Path

from tqdm import tqdm

from unetlab.checkpoint import write_atomically
from unetlab.class_board import picture, to_html, to_text
from unetlab.classroom import cores, make_board, one_line


def class_mode(options) -> int:
    """Play the hands of a class again, compare them on fresh seeds, and draw them for the projector."""
    page = Path(options.out)
    beside = page.with_suffix(".png")
    if page == beside or page.is_dir():
        raise ValueError(f"--out {page}: name a page, such as class.html; the picture goes beside it as a PNG")
    board = make_board(options.folder, options.finalists, progress=_bar)
    for path, why in board.refused.items():
        print(f"REFUSED  {one_line(path)}: {why}")
    print(to_text(board))
    png = picture(board)
    write_atomically(beside, png)
    write_atomically(page, to_html(board, png).encode())
    print(f"For the projector: {page}, {beside}")
    return 0


def _bar(runs, stage: str, total: int):
    """A bar over the runs with the time left, where a terminal can redraw it."""
    return tqdm(runs, f"{stage} on {cores()} cores", total, unit="run", leave=False, disable=None, file=sys.stderr)
