"""Read a labels file."""

from __future__ import annotations

from pathlib import Path

from edgeact.errors import DataError, MissingLabelsError

__all__ = ["read_labels"]


def read_labels(path: Path) -> tuple[str, ...]:
    """Read one label per line, UTF-8, empty lines ignored.

    Raises MissingLabelsError for a missing file, DataError for an empty one or duplicate labels.
    """
    if not path.is_file():
        raise MissingLabelsError(f"labels file '{path}' does not exist; expected a text file with one label per line")
    labels = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    if not labels:
        raise DataError(f"labels file '{path}' is empty; expected one label per line")
    if len(set(labels)) != len(labels):
        duplicates = sorted({label for label in labels if labels.count(label) > 1})
        raise DataError(f"labels file '{path}': expected unique labels, got duplicates of {', '.join(duplicates)}")
    return labels
