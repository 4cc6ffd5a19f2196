"""docs/format.md says what the code does, and stays short."""

from __future__ import annotations

from pathlib import Path

from edgeact.bundle import FORMAT_VERSION, container, reader

TEXT = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")


def test_it_is_at_most_forty_lines() -> None:
    assert len(TEXT.splitlines()) <= 40


def test_it_states_the_limits_of_the_code() -> None:
    assert f"version {FORMAT_VERSION}\n" in TEXT
    assert f"at most {container.MAX_MEMBERS} members" in TEXT
    assert f"at most {container.MAX_NAME_LENGTH} of" in TEXT
    assert f"at most {reader.MAX_JSON_BYTES >> 20} MiB" in TEXT
    assert container.MAX_FILE_BYTES + 1 == 4 << 30
