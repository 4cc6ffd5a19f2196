"""Where INT8 is not accurate enough: variants with layers left in float, as few as its accuracy takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgeact.errors import EdgeactError
from edgeact.export.build.measure import Measured, Meter
from edgeact.export.build.select import Terms, inaccurate_int8
from edgeact.export.build.targets import VARIANTS
from edgeact.export.candidates.candidate import Sources, Variant

__all__ = ["with_mixed"]

_MOST_MIXES = 3


def with_mixed(
    variants: Sequence[Variant], measured: Measured, sources: Sources, meter: Meter, terms: Terms
) -> tuple[list[Variant], Measured]:
    """The variants, a mixed one behind each of INT8 where INT8 is refused for its accuracy; and what is known of all.

    A mix is chosen on calibration clips and judged on others like every variant; one that is refused is made again
    with a goal 3 dB higher, three times at most and while the goal is worth it. The last one stays, refused or not.
    `measured` is what was measured of `variants`; latencies are left to the caller.
    """
    study = sources.study
    if study is None or not inaccurate_int8(variants, measured, terms):
        return list(variants), measured
    made: list[Variant] = []
    found = measured
    for raises in range(_MOST_MIXES):
        tuned = replace(study, mixed=True, raises=raises)
        trial = replace(sources, precisions=("int8",), study=tuned, decisions=[])
        try:
            made = VARIANTS[sources.profile.family](trial)
        except EdgeactError as error:
            sources.decisions.append(f"no mixed INT8: {error}")
            break
        sources.decisions.extend(told for told in trial.decisions if told not in sources.decisions)
        found = measured.joined(meter.measure(made, with_latency=False))
        out_of_reach = any(not mix.is_met for (_, tried), mix in study.mixes.items() if tried == raises)
        if out_of_reach or not inaccurate_int8(made, found, terms):
            break
    twins = {variant.artifact.name.replace("mixed", "int8"): variant for variant in made}
    beside = [(variant, twins.get(variant.artifact.name)) for variant in variants]
    return [one for pair in beside for one in pair if one], found
