"""`make proof`: train missing weights, export, evaluate, time, and write the record and its tables."""

from __future__ import annotations

import datetime
import tempfile
from pathlib import Path
from typing import Annotated

import torch
import typer

from edgeact.calibration.datasets import load_dataset
from edgeact.cli.output import note
from edgeact.devices import probe_machine
from edgeact.devices.probe import PACKAGES
from edgeact.storage import cache_folder, write_text
from tests.proof.measure import cost_rows, timed_again, trained_rows
from tests.proof.plan import COSTS, DATA, SUBJECTS
from tests.proof.records import Proof, markdown
from tests.proof.training import trained_weights

_RECORD, _TABLE = Path("docs/measured/proof.json"), Path("docs/measured/proof.md")


def command(
    folder: Annotated[Path | None, typer.Option(help="Folder of the trained weights; default: in the cache.")] = None,
    rounds: Annotated[int, typer.Option(min=3, help="Timed runs of each model.")] = 40,
    record: Annotated[Path, typer.Option(help="JSON record to write.")] = _RECORD,
    table: Annotated[Path, typer.Option(help="Markdown tables of the record to write.")] = _TABLE,
    time_again: Annotated[
        bool, typer.Option("--time-again", help="Measure latency alone; keep the accuracies of --record.")
    ] = False,
) -> None:
    """Train the subjects without weights (hours in all on two cores), then measure all subjects."""
    weights_folder = folder or cache_folder() / "proof"
    weights_folder.mkdir(parents=True, exist_ok=True)
    weights = {subject: trained_weights(subject, weights_folder, note) for subject in SUBJECTS}
    with tempfile.TemporaryDirectory() as work:
        if time_again:
            before = Proof.model_validate_json(record.read_text(encoding="utf-8")).trained
            trained = timed_again(before, weights, Path(work), rounds, note)
        else:
            trained = trained_rows(weights, load_dataset(DATA), Path(work), rounds, note)
    proof = Proof(
        created_utc=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        machine=probe_machine((*PACKAGES, "onnx")),
        threads=torch.get_num_threads(),
        rounds=rounds,
        trained=trained,
        costs=cost_rows(COSTS, rounds, note),
    )
    write_text(record, proof.model_dump_json(indent=1) + "\n")
    write_text(table, markdown(proof))
    note(f"wrote {record} and {table}")


if __name__ == "__main__":
    typer.run(command)
