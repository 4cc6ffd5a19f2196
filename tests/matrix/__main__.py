"""`make matrix`: the lines that are missing, one process a model; what is done is kept after every one."""

from __future__ import annotations

import datetime
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from edgeact.cli.output import note
from edgeact.devices import probe_machine
from edgeact.devices.probe import PACKAGES
from edgeact.errors import EdgeactError, UnknownNameError
from edgeact.export.models.registry import find_model
from edgeact.storage import write_text
from tests.benchmarks.processes import run_child
from tests.matrix.records import Line, Matrix, markdown, ordered, updated
from tests.matrix.sweep import BOARDS, matrix_models

_RECORD, _TABLE = Path("docs/measured/matrix.json"), Path("docs/matrix.md")


def command(
    models: Annotated[list[str] | None, typer.Argument(help="Do these again; default: those without cells.")] = None,
    cores: Annotated[int, typer.Option(min=1, help="Cores of every process.")] = 2,
    record: Annotated[Path, typer.Option(help="The JSON record, read first and written after every model.")] = _RECORD,
    table: Annotated[Path, typer.Option(help="The same as Markdown.")] = _TABLE,
    board: Annotated[list[str] | None, typer.Option(help="Only these boards' columns; other cells stay.")] = None,
) -> None:
    """Export every model to every target at full size; hours for all, and it can be interrupted and goes on."""
    names = matrix_models()
    for name in models or ():
        if name not in names:
            raise UnknownNameError("model of the matrix", name, names)
    lines = list(Matrix.model_validate_json(record.read_text(encoding="utf-8")).lines) if record.is_file() else []
    done = {line.model for line in lines if not line.failure}
    for name in models or [name for name in names if name not in done]:
        note(f"{name} ...")
        line = _line(name, cores, board or BOARDS)
        before = next((one for one in reversed(lines) if one.model == name and not one.failure), None)
        lines.append(line if board is None or before is None else updated(before, line))
        matrix = Matrix(machine=probe_machine((*PACKAGES, "onnx")), lines=ordered(lines, names))
        write_text(record, matrix.model_dump_json(indent=1) + "\n")
        write_text(table, markdown(matrix))
        outcomes = [cell.outcome for cell in line.cells]
        told = ", ".join(f"{outcomes.count(one)} {one}" for one in dict.fromkeys(outcomes)) or line.failure
        note(f"{name}: {told}; {line.wall_s:.0f} s, {line.peak_bytes / 1e9:.1f} GB")


def _line(name: str, cores: int, boards: Sequence[str]) -> Line:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "line.json"
        try:
            child = run_child([sys.executable, "-m", "tests.matrix.child", name, out, *boards], cores=cores)
        except EdgeactError as error:
            spec = find_model(name)
            return Line(model=name, formula=str(spec.formula), clip=spec.clip, cells=(), failure=str(error))
        line = Line.model_validate_json(out.read_text(encoding="utf-8"))
    created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return line.model_copy(
        update={"created_utc": created, "wall_s": round(child.wall_s, 1), "peak_bytes": child.peak_bytes}
    )


if __name__ == "__main__":
    typer.run(command)
