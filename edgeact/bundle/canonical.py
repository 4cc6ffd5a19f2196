"""JSON in the one byte form a bundle allows: UTF-8, sorted keys, no spaces, no NaN."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from edgeact.errors import BundleSchemaError, BundleVersionError

__all__ = ["encode", "parse", "validate"]

Model = TypeVar("Model", bound=BaseModel)
Path = tuple[int | str, ...]


def encode(document: BaseModel | dict[str, Any]) -> bytes:
    """The canonical bytes of `document`; ValueError where it holds NaN, infinity or lone surrogates."""
    plain = document.model_dump(mode="json") if isinstance(document, BaseModel) else document
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8")


def parse(data: bytes, what: str) -> dict[str, Any]:
    """The object whose canonical bytes are `data`; BundleSchemaError where there is none (doubled keys included)."""
    try:
        document = json.loads(data)
        if isinstance(document, dict) and encode(document) == data:
            return document
        reason = "expected an object in canonical form (sorted keys, no spaces, no key twice)"
    except (ValueError, RecursionError) as error:
        reason = str(error)
    raise BundleSchemaError(f"{what} is not canonical JSON: {reason}; export the bundle again")


def validate(model: type[Model], document: dict[str, Any], version_key: str, known: str) -> Model:
    """`document` as `model`. Unknown fields are ignored where a newer minor version wrote it, refused otherwise.

    Raises BundleVersionError for another major version (nothing else is looked at then), else BundleSchemaError.
    """
    newer = _is_newer_minor(str(document.get(version_key)), known)
    try:
        return model.model_validate_json(encode(document))
    except ValidationError as error:
        unknown = [detail["loc"] for detail in error.errors() if detail["type"] == "extra_forbidden"]
        if not newer or not unknown:
            raise BundleSchemaError(_explain(model, error)) from error
    for path in unknown:
        _remove(document, path)
    try:
        return model.model_validate_json(encode(document))
    except ValidationError as error:
        raise BundleSchemaError(_explain(model, error)) from error


def _is_newer_minor(found: str, known: str) -> bool:
    """Whether `found` is of the known major version but a later minor one."""
    if not re.fullmatch(r"[0-9]{1,6}\.[0-9]{1,6}", found):
        raise BundleVersionError(f"the format version must be 'major.minor', got '{found[:40]}'; export again")
    major, minor = map(int, found.split("."))
    known_major, known_minor = map(int, known.split("."))
    if major != known_major:
        raise BundleVersionError(
            f"format version {found} is unknown, this edgeact reads {known_major}.x; "
            f"{'update edgeact' if major > known_major else 'export the bundle again'}"
        )
    return minor > known_minor


def _remove(document: Any, path: Path) -> None:
    for step in path[:-1]:
        document = document[step]
    del document[path[-1]]


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    """The first three violations, one line."""
    details = error.errors()
    lines = [f"{'.'.join(map(str, detail['loc'])) or 'whole'}: {detail['msg']}" for detail in details[:3]]
    more = f" and {len(details) - 3} more" if len(details) > 3 else ""
    return f"{model.__name__.lower()} does not follow its schema: {'; '.join(lines)}{more}; export the bundle again"
