"""`edgeact verify`: replay the golden clip of a bundle with every artifact that runs here, and compare every stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from edgeact.cli.option_groups import with_option_groups
from edgeact.cli.output import JsonOption, emit_json, runtime_notes, show
from edgeact.cli.session_options import BundleArgument, DeviceOption, VerifyOptions
from edgeact.errors import BaselineError
from edgeact.phrases import phrase

if TYPE_CHECKING:
    from edgeact.runtime import Verification, VerifiedArtifact
    from edgeact.self_check_results import StageResult

__all__ = ["command"]

_STYLES = {"passed": "green", "failed": "red", "not-checked": "dim"}
_STAGES = ("decode", "resize", "normalize", "network")


@with_option_groups
def command(
    *, bundle: BundleArgument, options: VerifyOptions, device: DeviceOption = None, json: JsonOption = False
) -> None:
    """Check every artifact on this machine. The exit code is 13 if a stage fails, 11 if no network can be checked."""
    from edgeact import runtime

    with runtime_notes():
        verification = runtime.verify(
            bundle,
            backend=options.backend,
            artifact=options.artifact,
            device=device,
            threads=options.threads,
            trust_engines=options.trust_engines,
        )
    if json:
        emit_json(_document(verification))
    else:
        show(_screen(verification))
    verification.raise_on_failure()
    if verification.verdict == "not-checked":
        raise BaselineError(
            f"'{bundle}': no network was checked, expected at least one; the reasons are listed above; "
            "export the model again if the bundle has no golden clip"
        )


def _document(verification: Verification) -> dict[str, object]:
    from edgeact.devices import probe_machine

    return {
        "bundle": str(verification.bundle.path),
        "digest": verification.bundle.digest,
        "machine": probe_machine().model_dump(mode="json"),
        "verdict": verification.verdict,
        "artifacts": [_artifact_document(each) for each in verification.artifacts],
    }


def _artifact_document(verified: VerifiedArtifact) -> dict[str, object]:
    check = verified.check
    stages = check.stages if check else ()
    return {
        "artifact": verified.artifact,
        "backend": verified.backend,
        "device": check.device if check else None,
        "verdict": check.verdict if check else "not-checked",
        "error": str(verified.error) if verified.error else None,
        "stages": [result.model_dump(mode="json") | {"verdict": result.verdict} for result in stages],
    }


def _screen(verification: Verification) -> RenderableType:
    """Return the table of artifacts and stages, with the reasons below."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for header in ("artifact", "backend", "device"):
        table.add_column(header, no_wrap=True)
    for header in _STAGES:
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for verified in verification.artifacts:
        table.add_row(*_cells(verified), style=_STYLES[verified.check.verdict if verified.check else "not-checked"])
    legend = "decode, resize: difference in levels of 255; normalize: of the network input; network: SNR of logits"
    return Group(table, f"[dim]{legend}[/]", *(escape(line) for line in _reasons(verification)))


def _cells(verified: VerifiedArtifact) -> tuple[str, ...]:
    check = verified.check
    if check is None:
        return (escape(verified.artifact), verified.backend, "-", *("-" for _ in _STAGES), "does not run")
    figures = map(_figure, check.stages)
    return (escape(verified.artifact), verified.backend, escape(check.device), *figures, check.verdict)


def _figure(result: StageResult) -> str:
    """Format a figure beside its limit, e.g. '41.2 dB (>= 20)'."""
    if result.figure is None or result.limit is None:
        return "-"
    if result.stage == "network":
        return f"{result.figure:.1f} dB (>= {result.limit:g})"
    return f"{result.figure:.2g} (<= {result.limit:g})"


def _reasons(verification: Verification) -> list[str]:
    """Return one line for each distinct reason why an artifact failed, or was not checked, or does not run."""
    names: dict[str, list[str]] = {}
    for verified in verification.artifacts:
        subject = f"{verified.artifact} on {verified.backend}"
        texts = [str(verified.error)] if verified.error else []
        if verified.check is not None:
            texts += [phrase(verified.check.failure)] if verified.check.failure else []
            texts += [phrase(result) for result in verified.check.stages if result.verdict == "not-checked"]
        for text in texts:
            names.setdefault(text, []).append(subject)
    return [f"{', '.join(subjects)}: {text}" for text, subjects in names.items()]
