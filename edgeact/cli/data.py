"""`edgeact data`: show a data set before anything is trained or measured on it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from edgeact.cli.output import JsonOption, emit_json, note, show
from edgeact.cli.panels import OUTPUT
from edgeact.cli.steps import STARTING, steps
from edgeact.storage import atomic_write

if TYPE_CHECKING:
    from edgeact.calibration.datasets import Dataset, VideoItem

__all__ = ["command"]

_SHOWN = 10


def command(
    spec: Annotated[
        str | None,
        typer.Argument(help="Data set, e.g. 'folder:/clips', see docs/data.md; default: as in export.", metavar="DATA"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder to copy one video of each label to.", rich_help_panel=OUTPUT),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Load a data set and show its splits, labels, groups, and the videos that were left out."""
    with steps() as shown:
        shown.begin(STARTING)
        from edgeact.calibration.datasets import LOADING_STEP, load_dataset

        dataset = load_dataset(spec or _default_spec(), shown.of(LOADING_STEP))
    examples = _examples(dataset)
    copies = _copy(dataset, examples, out) if out else []
    if json:
        emit_json(_document(dataset, examples, copies))
        return
    show(_table(dataset))
    note(f"{dataset.name} is in {escape(str(dataset.root))}")
    for reason, count in dataset.skipped.items():
        note(f"{count} videos left out: {reason}")
    for gap in _few(dataset.gaps()):
        note(escape(gap))
    if copies:
        note(f"copied {len(copies)} examples to {out}")
    elif examples:
        note(f"example: {escape(str(examples[0].path))}")


def _few(sentences: tuple[str, ...]) -> list[str]:
    return [*sentences[:_SHOWN], *([f"and {len(sentences) - _SHOWN} more"] if len(sentences) > _SHOWN else [])]


def _default_spec() -> str:
    from edgeact.export.build.data import DEFAULT_DATA

    return DEFAULT_DATA


def _examples(dataset: Dataset) -> list[VideoItem]:
    """Return the first video of every label, from 'test' before 'val' before 'train'."""
    first: dict[int, VideoItem] = {}
    for split in ("test", "val", "train"):
        for item in dataset.splits.get(split, ()):
            first.setdefault(item.label, item)
    return [first[label] for label in sorted(first)]


def _copy(dataset: Dataset, examples: list[VideoItem], out: Path) -> list[Path]:
    """Copy `examples`, each named by the number and the text of its label, so that no copy replaces another."""
    digits = len(str(len(dataset.labels) - 1))
    copies = []
    for item in examples:
        label = re.sub(r"[^\w.-]+", "-", dataset.labels[item.label])
        path = out / f"{item.label:0{digits}}-{label}{item.path.suffix}"
        with item.path.open("rb") as source, atomic_write(path) as target:
            shutil.copyfileobj(source, target)
        copies.append(path)
    return copies


def _document(dataset: Dataset, examples: list[VideoItem], copies: list[Path]) -> dict[str, object]:
    return {
        "name": dataset.name,
        "root": str(dataset.root),
        "labels": list(dataset.labels),
        "splits": {
            split: {"videos": len(items), "groups": _groups(items), "videos_per_label": _counts(dataset, split)}
            for split, items in dataset.splits.items()
        },
        "skipped": dict(dataset.skipped),
        "gaps": list(dataset.gaps()),
        "examples": {dataset.labels[item.label]: str(item.path) for item in examples},
        "copies": [str(path) for path in copies],
    }


def _table(dataset: Dataset) -> Table:
    table = Table(show_footer=True)
    table.add_column("label", footer="videos\ngroups", overflow="fold")
    for split, items in dataset.splits.items():
        table.add_column(split, footer=f"{len(items)}\n{_groups(items)}", justify="right")
    counts = [_counts(dataset, split) for split in dataset.splits]
    for index, label in enumerate(dataset.labels):
        table.add_row(escape(label), *(str(of_split[index]) for of_split in counts))
    return table


def _groups(items: tuple[VideoItem, ...]) -> int:
    return len({item.group for item in items})


def _counts(dataset: Dataset, split: str) -> list[int]:
    """Count the videos of each label, in the order of the labels."""
    counts = [0] * len(dataset.labels)
    for item in dataset.splits[split]:
        counts[item.label] += 1
    return counts
