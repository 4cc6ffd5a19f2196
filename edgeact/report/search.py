"""A search as text: its summary, the Pareto front with export commands, and all trials."""

from __future__ import annotations

from edgeact.records import SearchRecord, SearchTrial
from edgeact.report.formatting import (
    DROP_HEAD,
    NONE,
    bytes_text,
    drop_text,
    machine_name,
    percent,
    stages_text,
    trial_latency_text,
)
from edgeact.report.view import SearchView

__all__ = ["COMMAND_HEAD", "front_rows", "search_title", "summarize_search", "trial_rows"]

COMMAND_HEAD = "export command"
"""Column head of the command that exports a trial."""


def search_title(record: SearchRecord) -> str:
    """Return 'Search: MODEL for TARGET'."""
    return f"Search: {record.model} for {record.target}"


def summarize_search(record: SearchRecord) -> tuple[str, ...]:
    """Summarize a search in sentences: progress and budgets, the chosen trial, data, machine, and notes."""
    latency_budget = "no latency budget" if record.max_ms is None else f"latency budget {record.max_ms:g} ms"
    failures = sum(bool(trial.failure) for trial in record.trials)
    failed = f"; {failures} of them failed" if failures else ""
    sentences = [
        f"{len(record.trials)} of {record.wanted_trials} trials are finished{failed}. Budgets: {latency_budget}, "
        f"accuracy drop of at most {record.max_drop_points:g} points of top-1.",
        _chosen(record),
        f"Accuracy: {record.count} videos of {record.dataset} {record.split}, the same for all trials; top-1 of the "
        f"unpruned model in PyTorch FP32 is {percent(record.reference_top1)} %.",
        f"Latency: estimated for every trial from the peak rates of {record.target}, not measured."
        if record.is_estimate
        else f"Latency: measured on {machine_name(record.machine)}, threads: {record.recipe.threads}, no other work of "
        "the search at the same time.",
    ]
    return (*sentences, *(f"{note[0].upper()}{note[1:]}." for note in record.notes))


def front_rows(search: SearchView) -> list[dict[str, str]]:
    """Return the cells of the Pareto front's table by column head, fastest trial first, with export commands."""
    return [
        {**_cells(search.record, trial), COMMAND_HEAD: search.command(trial.number)} for trial in search.record.on_front
    ]


def trial_rows(record: SearchRecord) -> list[dict[str, str]]:
    """Return the cells of the table of all trials by column head."""
    return [_cells(record, trial) for trial in record.trials]


def _chosen(record: SearchRecord) -> str:
    trial = None if record.chosen is None else record.trial(record.chosen)
    if trial is None:
        return "No trial meets both budgets."
    results = f"{trial_latency_text(trial)}, {drop_text(trial.drop)}"
    return f"The fastest trial within both budgets is trial {trial.number}: {results}."


def _cells(record: SearchRecord, trial: SearchTrial) -> dict[str, str]:
    status = "chosen" if trial.number == record.chosen else "front" if trial.number in record.front else "dominated"
    return {
        "trial": str(trial.number),
        "latency": trial_latency_text(trial),
        "top-1": NONE if trial.top1 is None else f"{percent(trial.top1)} %",
        DROP_HEAD: drop_text(trial.drop),
        "pruned; INT8; clip": stages_text(trial),
        "artifact": f"{trial.artifact} {bytes_text(trial.size_bytes)}" if trial.artifact else NONE,
        "status": f"failed: {trial.failure}" if trial.failure else status,
    }
