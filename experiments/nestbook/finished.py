"""Whether an executed notebook ran to its end, from its cells and not from papermill's status.

    python -m nestbook.finished --status $? out.ipynb      # after papermill, as the Makefile does

papermill 2.7 ends with 0 when a cell calls `sys.exit()`, and the cells after it have not run. When
a kernel is killed it ends with 138 and calls every cell "completed", with no exception. An output
that is run again without parameters keeps the cell that an earlier run injected.
"""

import argparse
import json
import sys
from pathlib import Path

# `make notebooks` and book/colab.py clear these cells once the notebook has run, with their count.
CLEARED = {"remove-output", "remove-cell"}
# nbclient 0.11 notes when the kernel's answer to a cell came; a killed kernel gives no answer.
ANSWER = "shell.execute_reply"


def find_fault(path: Path, *, given: bool = False) -> str:
    """Why a notebook does not show one run from its first cell to its last; "" for one that does.

    Args:
        path: an .ipynb file, executed by papermill or by `jupyter execute`.
        given: whether its last run was given parameters, so that an injected cell is its own.

    Raises:
        ValueError: the file does not hold JSON.
        OSError: it cannot be read.
    """
    # As JSON, for nbformat takes longer to import than the rest together.
    found = json.loads(path.read_text())["cells"]
    cells = [c for c in found if c["cell_type"] == "code" and _source_of(c)]
    places = [place for place, cell in enumerate(cells, 1) if cell["execution_count"]]
    last = max(places, default=0)
    for place, cell in enumerate(cells, 1):
        tags = set(cell["metadata"].get("tags", []))
        cleared = place < last and not cell["outputs"] and CLEARED & tags
        fault = "" if cleared else _fault_of(cell, place)
        if "injected-parameters" in tags and not given:
            fault = "holds parameters that papermill injected for another run: delete the cell"
        if fault:
            begin = _source_of(cell).splitlines()[0]
            return f"code cell {place} of {len(cells)} ({begin}) {fault}"
    return ""


def _source_of(cell: dict) -> str:
    return "".join(cell["source"]).strip()  # a list of lines, or one text


def _fault_of(cell: dict, place: int) -> str:
    for output in cell["outputs"]:
        if output["output_type"] == "error":
            return f"stopped with {output['ename']}: {output['evalue']}".rstrip(": ")
    if not cell["execution_count"]:
        return "did not run to its end; if its kernel was killed, memory may have run out"
    timings = cell["metadata"].get("execution")  # none where they were stripped
    if timings and ANSWER not in timings:
        return "did not end, for its kernel was killed; memory may have run out"
    if cell["execution_count"] != place:
        return f"ran as number {cell['execution_count']}, so cells were left out or ran twice"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description="Whether an executed notebook ran to its end.")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--status", type=int, default=0, help="papermill's own; returned if not 0")
    parser.add_argument("--given", action="store_true", help="the run was given parameters")
    chosen = parser.parse_args()
    try:
        fault = find_fault(chosen.notebook, given=chosen.given)
    except (OSError, ValueError) as error:
        fault = str(error)
    if fault:
        print(
            f"{chosen.notebook} is unfinished: {fault}. Mend that, then run it again.",
            file=sys.stderr,
        )
    return chosen.status or int(bool(fault))


if __name__ == "__main__":
    sys.exit(main())
