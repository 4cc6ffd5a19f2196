"""One model's line of the full matrix, in a process of its own: `tests.matrix.child MODEL OUT.json BOARD...`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from edgeact.cli.output import note
from edgeact.export.models.registry import find_model
from edgeact.storage import write_text
from tests.matrix.records import Line
from tests.matrix.sweep import Size, try_model


def main(name: str, out: str, *boards: str) -> None:
    """Write the cells; what is under way goes to standard error."""
    spec = find_model(name)
    cells = try_model(name, Size(), torch.get_num_threads(), note, boards)
    line = Line(model=name, formula=str(spec.formula), clip=spec.clip, cells=tuple(cells))
    write_text(Path(out), line.model_dump_json())


if __name__ == "__main__":
    main(*sys.argv[1:])
