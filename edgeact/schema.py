"""The base of all persisted documents."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["StrictModel"]


class StrictModel(BaseModel):
    """An immutable document that refuses unknown fields, NaN and infinity.

    Its validator is built on first use, so that importing a module with many documents stays fast.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)
