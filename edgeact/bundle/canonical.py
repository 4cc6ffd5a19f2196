"""Canonical JSON, the only form that a bundle may contain: UTF-8, sorted keys, no spaces, no NaN."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

from edgeact.errors import BundleSchemaError, BundleVersionError

__all__ = ["encode", "parse", "validate"]

Model = TypeVar("Model", bound=BaseModel)
Path = tuple[int | str, ...]
JsonObject: TypeAlias = dict[str, Any]


def encode(document: BaseModel | Mapping[str, object]) -> bytes:
    """Return the canonical bytes of `document`; raises ValueError for NaN, infinity and lone surrogates."""
    plain = document.model_dump(mode="json") if isinstance(document, BaseModel) else document
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8")


def parse(data: bytes, name: str) -> JsonObject:
    """Return the object whose canonical bytes are `data`; raises BundleSchemaError for any other bytes."""
    try:
        document = json.loads(data)
        if isinstance(document, dict) and encode(document) == data:
            result: JsonObject = document
            return result
        reason = "expected an object with sorted keys, without spaces and duplicate keys"
    except (ValueError, RecursionError) as error:
        reason = str(error)
    raise BundleSchemaError(f"{name} is not canonical JSON: {reason}; export the bundle again")


def validate(model: type[Model], document: JsonObject, version_key: str, known: str) -> Model:
    """Validate `document` as `model`; unknown fields are ignored if a newer minor version wrote them, else refused.

    Raises BundleVersionError for another major version, before any other check, else BundleSchemaError.
    """
    is_newer = _is_newer_minor(str(document.get(version_key)), known)
    try:
        return model.model_validate_json(encode(document))
    except ValidationError as error:
        unknown = [detail["loc"] for detail in error.errors() if detail["type"] == "extra_forbidden"]
        if not is_newer or not unknown:
            raise BundleSchemaError(_explain(model, error)) from error
    for path in unknown:
        _remove(document, path)
    try:
        return model.model_validate_json(encode(document))
    except ValidationError as error:
        raise BundleSchemaError(_explain(model, error)) from error


def _is_newer_minor(version: str, known: str) -> bool:
    """Return whether `version` has the known major but a later minor number."""
    if not re.fullmatch(r"[0-9]{1,6}\.[0-9]{1,6}", version):
        raise BundleVersionError(f"format version: expected 'major.minor', got '{version[:40]}'; export again")
    major, minor = map(int, version.split("."))
    known_major, known_minor = map(int, known.split("."))
    if major != known_major:
        raise BundleVersionError(
            f"format version {version} is unknown, this edgeact reads {known_major}.x; "
            f"{'update edgeact' if major > known_major else 'export the bundle again'}"
        )
    return minor > known_minor


def _remove(document: JsonObject, path: Path) -> None:
    node: Any = document
    for key in path[:-1]:
        node = node[key]
    del node[path[-1]]


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    """Return the first three violations in one line."""
    details = error.errors()
    lines = [f"{'.'.join(map(str, detail['loc'])) or 'whole'}: {detail['msg']}" for detail in details[:3]]
    more = f" and {len(details) - 3} more" if len(details) > 3 else ""
    return f"{model.__name__.lower()} does not follow its schema: {'; '.join(lines)}{more}; export the bundle again"
