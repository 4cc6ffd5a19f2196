"""Callbacks that collect what an operation reports."""

from __future__ import annotations

from edgeact.progress import Callbacks

__all__ = ["collecting_titles"]


def collecting_titles(titles: list[str], notes: list[str] | None = None) -> Callbacks:
    """Return callbacks that append the titles of steps to `titles`, and notes to `notes`."""

    def on_progress(title: str, _done: int, _total: int) -> None:
        titles.append(title)

    return Callbacks(on_progress) if notes is None else Callbacks(on_progress, notes.append)
