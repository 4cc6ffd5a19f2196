"""English of typed reasons: each type has a sentence, and the values stand in it."""

from __future__ import annotations

import inspect

import pytest

from edgeact import reasons
from edgeact.phrases import phrase
from edgeact.reasons import (
    AccuracyDropTooLarge,
    BiasCorrection,
    ChosenFastest,
    KernelsMissing,
    LayoutCopies,
    SlowerThanChosen,
)
from tests.messages import names

TYPES = [
    value
    for name, value in vars(reasons).items()
    if inspect.isclass(value) and "kind" in getattr(value, "model_fields", {})
]


@pytest.mark.parametrize("reason_type", TYPES)
def test_phrase_knows_every_type(reason_type: type) -> None:
    assert phrase.dispatch(reason_type) is not phrase.dispatch(object)


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
