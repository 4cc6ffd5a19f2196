"""`python -m tests.benchmarks`: measure, check the limits, write the record, print the table."""

from __future__ import annotations

import datetime
import os
import tempfile
import time
import traceback
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edgeact.cli.output import note, show
from edgeact.storage import write_text
from tests.benchmarks.family import record_folder
from tests.benchmarks.measure import BENCHMARKS
from tests.benchmarks.records import BenchDuration, BenchFailure, BenchReport, BenchRow, BenchSettings
from tests.benchmarks.tables import console_table, markdown
from tests.benchmarks.workspace import Workspace

Name = Enum("Name", {name: name for name in BENCHMARKS}, type=str)  # type: ignore[misc]


def command(  # as many parameters as options
    quick: Annotated[bool, typer.Option("--quick", help="Narrow model, few rounds; the limits do not apply.")] = False,
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds of timing. Default: 40; with --quick 5.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Number of threads and cores.")] = 2,
    only: Annotated[
        list[Name] | None, typer.Option(help="Benchmark to run; repeatable. Default: all except demo.")
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Also time 'make demo'.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for bench.json and bench.md. Default: docs/measured/FAMILY of this CPU's family."),
    ] = None,
) -> None:
    """Measure speed and memory and compare them with the limits of the project; exit code 1 if a limit is missed."""
    make = BenchSettings.quick if quick else BenchSettings.full
    settings = make(**({"rounds": rounds} if rounds else {}), threads=threads)
    names = [name.value for name in only or []] or [name for name in BENCHMARKS if name != "demo"]
    report = run_benchmarks(settings, [*names, *(["demo"] if demo and "demo" not in names else [])])
    folder = out or record_folder(report.machine)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "bench.json", report.model_dump_json(indent=2) + "\n")
    write_text(folder / "bench.md", markdown(report))
    show(console_table(report))
    note(f"wrote {folder / 'bench.json'} and bench.md")
    raise typer.Exit(0 if report.passed else 1)


def run_benchmarks(settings: BenchSettings, names: list[str]) -> BenchReport:
    """Run the named benchmarks one after the other; a failure is recorded and does not stop the others."""
    load_average = os.getloadavg()[0]
    rows: list[BenchRow] = []
    failures: list[BenchFailure] = []
    durations: list[BenchDuration] = []
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(settings, Path(folder), note)
        for name in names:
            start = time.monotonic()
            try:
                rows += BENCHMARKS[name](workspace)
            except Exception as error:  # of any library; as in a test runner, the others still run
                Console(stderr=True).print(f"{name} failed:\n{traceback.format_exc()}", style="red", markup=False)
                failures.append(BenchFailure(benchmark=name, reason=f"{type(error).__name__}: {error}"))
            durations.append(BenchDuration(benchmark=name, seconds=time.monotonic() - start))
    return BenchReport(
        created_utc=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        machine=workspace.machine,
        load_average=load_average,
        settings=settings,
        rows=tuple(rows),
        failures=tuple(failures),
        gaps=tuple(workspace.gaps),
        durations=tuple(durations),
    )


if __name__ == "__main__":
    typer.run(command)
