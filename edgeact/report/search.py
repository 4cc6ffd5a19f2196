"""A search as text: what was searched, the front with the command of every point, and all trials."""

from __future__ import annotations

from edgeact.records import SearchRecord, SearchTrial
from edgeact.report.formatting import DROP_HEAD, bytes_text, drop_text, machine_name, ms, percent, stages_text
from edgeact.report.view import SearchView

__all__ = ["front_rows", "search_title", "summarize_search", "trial_rows"]


def search_title(record: SearchRecord) -> str:
    """'Search: MODEL for TARGET'."""
    return f"Search: {record.model} for {record.target}"


def summarize_search(record: SearchRecord) -> tuple[str, ...]:
    """What a reader in a hurry needs: budgets and whether they are kept, on what, and what is not sure."""
    budget = "any latency" if record.max_ms is None else f"at most {record.max_ms:g} ms"
    failed = sum(bool(trial.failure) for trial in record.trials)
    told = f"; {failed} of them failed" if failed else ""
    sentences = [
        f"{len(record.trials)} of {record.wanted_trials} trials are finished{told}. Wanted: {budget}, and at most "
        f"{record.max_drop_points:g} points of top-1 lost.",
        _chosen(record),
        f"Accuracy: {record.count} videos of {record.dataset} {record.split}, the same for all; the unpruned model in "
        f"PyTorch FP32 is right on {percent(record.reference_top1)} %.",
        f"Latency: every one is an estimate from the peak rates of {record.target}, and none was measured."
        if record.is_estimate
        else f"Latency: measured on {machine_name(record.machine)}, threads: {record.recipe.threads}, nothing else of "
        "the search running beside it.",
    ]
    return (*sentences, *(f"{note[0].upper()}{note[1:]}." for note in record.notes))


def front_rows(search: SearchView) -> list[dict[str, str]]:
    """The front, fastest first, as the cells of table rows; the last is the command that exports it."""
    return [
        {**_cells(search.record, trial), "export it": search.command(trial.number)} for trial in search.record.on_front
    ]


def trial_rows(record: SearchRecord) -> list[dict[str, str]]:
    """All trials as the cells of table rows; what failed says why."""
    return [_cells(record, trial) for trial in record.trials]


def _chosen(record: SearchRecord) -> str:
    trial = None if record.chosen is None else record.trial(record.chosen)
    if trial is None:
        return "No trial keeps both budgets."
    return f"The fastest within both is trial {trial.number}: {_latency(trial)}, {drop_text(trial.drop)}."


def _cells(record: SearchRecord, trial: SearchTrial) -> dict[str, str]:
    place = "chosen" if trial.number == record.chosen else "front" if trial.number in record.front else "beaten"
    if trial.failure:
        place = f"failed: {trial.failure}"
    top1 = "n/a" if trial.top1 is None else f"{percent(trial.top1)} %"
    return {
        "trial": str(trial.number),
        "latency": _latency(trial),
        "top-1": top1,
        DROP_HEAD: drop_text(trial.drop),
        "pruned; INT8; clip": stages_text(trial),
        "artifact": f"{trial.artifact} {bytes_text(trial.size_bytes)}" if trial.artifact else "n/a",
        "place": place,
    }


def _latency(trial: SearchTrial) -> str:
    if trial.latency_ms is None:
        return "n/a"
    return f"{ms(trial.latency_ms)} ms" if trial.latency else f"≈ {ms(trial.latency_ms)} ms estimate"
