"""English of typed reasons: each type has a sentence, and the values stand in it."""

from __future__ import annotations

import inspect

import pytest

from edgeact import layer_reasons, loading_notes, reasons, self_check_results
from edgeact.layer_reasons import ActivationOverflows, FloatReason, KeptOnRequest, NoInt8Kernel, SensitiveToInt8
from edgeact.phrases import phrase, phrases
from edgeact.pruning_reasons import KeepReason, ReasonKind
from edgeact.reasons import (
    AccuracyDropTooLarge,
    BiasCorrection,
    ChosenFastest,
    Int8Omitted,
    KernelsMissing,
    LayoutCopies,
    SlowerThanChosen,
)
from tests.messages import names

TYPES = [
    value
    for name, value in (vars(reasons) | vars(layer_reasons) | vars(loading_notes) | vars(self_check_results)).items()
    if inspect.isclass(value) and "kind" in getattr(value, "model_fields", {})
]


@pytest.mark.parametrize("reason_type", TYPES)
def test_phrase_knows_every_type(reason_type: type) -> None:
    assert phrase.dispatch(reason_type) is not phrase.dispatch(object)


@pytest.mark.parametrize("kind", ReasonKind)
def test_phrase_knows_every_reason_to_keep_channels(kind: ReasonKind) -> None:
    sentence = phrase(KeepReason(kind, "layer 'x'"))
    assert "{" not in sentence
    assert not sentence.endswith(".")


def test_phrase_refuses_other_values() -> None:
    with pytest.raises(TypeError, check=names("got int")):
        phrase(1)


@pytest.mark.parametrize(
    ("points", "allowed", "text"),
    [
        (1.5, 1.0, "loses 1.5 points of top-1, 1.0 are allowed"),
        (1.0417, 1.0, "loses 1.042 points of top-1, 1.000 are allowed"),
    ],
)
def test_accuracy_drop_has_the_digits_that_show_the_difference(points: float, allowed: float, text: str) -> None:
    assert phrase(AccuracyDropTooLarge(points=points, allowed=allowed)) == text


def test_slower_than_chosen_lists_its_causes() -> None:
    reason = SlowerThanChosen(
        chosen="native-int8",
        ratio=1.5,
        causes=(
            KernelsMissing(precision="int8", count=2, total=40, computed_in=("f32",)),
            LayoutCopies(share=0.2, operators=("Concat", "Split")),
        ),
        is_fallback=True,
    )
    assert phrase(reason) == (
        "1.50 times the latency of native-int8: no INT8 kernel for 2 of 40 convolutions and products, computed in f32, "
        "20% of the latency is copies and changes of layout or precision (Concat, Split); kept for machines that "
        "cannot run native-int8"
    )


def test_chosen_fastest_names_candidates_of_equal_latency() -> None:
    assert phrase(ChosenFastest(not_distinguished_from=("a", "b"))).endswith(
        "not significantly different from a, b: the confidence intervals of the latency overlap"
    )


def test_bias_correction_gives_the_gain() -> None:
    decision = BiasCorrection(mixed=True, outcome="corrected", layers=3, clips=8, before_db=20.0, after_db=21.5)
    assert phrase(decision) == (
        "mixed INT8: biases of 3 layers corrected: correction takes the SNR from 20.0 to 21.5 dB on 8 held-back clips"
    )


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (
            NoInt8Kernel(requirement="cubic-kernel", outputs=64, inputs=3, kernel=(1, 7, 7)),
            "3 input channels per group and 64 output channels, kernel 1x7x7: INT8 kernels need a cubic kernel for few "
            "channels",
        ),
        (
            SensitiveToInt8(snr_db=12.34, top1_agreement=0.75),
            "mixed precision: INT8 in this layer alone gives 12.3 dB of SNR and 75% of the top-1",
        ),
        (
            ActivationOverflows(tensor="stem", largest=70000.0, limit=16376.0),
            "FP32: 'stem' reaches 7e+04 on the sample clips; FP16 is trusted up to 16376",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_layer_kept_in_float_names_its_figures(reason: FloatReason, text: str) -> None:
    assert phrase(reason) == text
    assert phrases({"layer": reason}) == {"layer": text}


def test_an_omitted_int8_names_each_reason_and_reads_those_of_earlier_releases() -> None:
    text = "no INT8: every layer is kept in float (module 'head' is kept in float on request)"
    decision = Int8Omitted(cause="all-layers-in-float", layer_reasons=(KeptOnRequest(module="head"),))
    assert phrase(decision) == text
    assert Int8Omitted.model_validate_json(decision.model_dump_json()) == decision
    earlier = {"cause": "all-layers-in-float", "layer_reasons": ("module 'head' is kept in float on request",)}
    assert phrase(Int8Omitted.model_validate(earlier)) == text
