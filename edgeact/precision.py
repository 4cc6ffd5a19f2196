"""Precision of an artifact, apart from the measurement records, which the runtime does not import."""

from __future__ import annotations

from typing import Literal

__all__ = ["Precision"]

Precision = Literal["fp32", "fp16", "int8"]
