"""Labels files: one label per line."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeact.errors import DataError
from edgeact.export.models.labels import read_labels
from tests.messages import names


def test_labels_are_read_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("wave hand\n\n  sit \r\nübung\n", encoding="utf-8")
    assert read_labels(path) == ("wave hand", "sit", "übung")


@pytest.mark.parametrize(
    ("text", "says"), [(None, "does not exist"), ("\n \n", "is empty"), ("a\nb\na\n", "duplicates of a")]
)
def test_wrong_label_files_are_refused(text: str | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, check=names(says)):
        read_labels(path)
