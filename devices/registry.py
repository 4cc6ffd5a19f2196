"""Reading the profiles: one TOML a board, in groups of facts that share a mark and a source.

A value can only be written inside a `[[facts]]` group, and a group needs `mark` and `source`: so no value comes
without its provenance. Groups are merged; a value stated twice is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from edgeact.devices.profile import DeviceProfile, Provenance, leaves
from edgeact.errors import UnknownNameError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["ALIASES", "jetpack_of_l4t", "list_profiles", "load_profile", "parse_profile"]

ALIASES: Mapping[str, str] = {"cpu": "intel-cpu", "desktop": "rtx-4090", "jetson": "orin-nano-8gb"}

_FOLDER = Path(__file__).parent
_RELEASES = "_releases.toml"

Keys = tuple[str, ...]
Fact = tuple[Any, Provenance]
Facts = dict[Keys, Fact]


def list_profiles() -> tuple[str, ...]:
    """The ids of all profiles, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml") if path.name != _RELEASES))


@cache
def load_profile(name: str) -> DeviceProfile:
    """The profile with that id or alias; UnknownNameError, with the nearest names, where there is none."""
    profile_id = ALIASES.get(name, name)
    known = list_profiles()
    if profile_id not in known:
        raise UnknownNameError("target", name, (*known, *ALIASES))
    return parse_profile(profile_id, (_FOLDER / f"{profile_id}.toml").read_text(encoding="utf-8"))


def parse_profile(profile_id: str, text: str) -> DeviceProfile:
    """The profile written in `text` (TOML); ValueError where it breaks the schema or a rule of this module."""
    document = tomllib.loads(text)
    facts = _merge(document.pop("facts", []), profile_id)
    releases, _ = facts.pop(("tensorrt",), ((), None))
    for release in releases:
        facts.update(_dialect(release, facts.get(("supports_int8",)), profile_id))
    fields = _nest({path: value for path, (value, _) in facts.items()})
    for name in ("modes", "tensorrt"):
        fields[name] = tuple({"name": key, **part} for key, part in fields.get(name, {}).items())
    provenance = {".".join(path): stamp for path, (_, stamp) in facts.items()}
    return DeviceProfile.model_validate({"id": profile_id, **document, **fields, "provenance": provenance})


def jetpack_of_l4t(l4t: str) -> str | None:
    """The JetPack release of an L4T release such as '36.4.3'; None where it is not known."""
    for path, (value, _) in _releases().items():
        if path[1:] == ("l4t", l4t):
            return str(value)
    return None


@cache
def _releases() -> Facts:
    document = tomllib.loads((_FOLDER / _RELEASES).read_text(encoding="utf-8"))
    return _merge(document["facts"], _RELEASES)


def _dialect(release: str, supports_int8: Fact | None, owner: str) -> Facts:
    """The facts of a release; a GPU without INT8 takes no Q/DQ, and then its own source says so."""
    found = {("tensorrt", *path): fact for path, fact in _releases().items() if path[0] == release}
    if not found:
        raise ValueError(f"'{owner}': unknown TensorRT release '{release}'; add it to {_RELEASES}")
    if supports_int8 and not supports_int8[0]:
        found["tensorrt", release, "qdq"] = supports_int8
    return found


def _merge(groups: Iterable[Mapping[str, Any]], owner: str) -> Facts:
    merged: Facts = {}
    for group in groups:
        stamp = Provenance.model_validate({key: group[key] for key in ("mark", "source") if key in group})
        for path, value in leaves({key: item for key, item in group.items() if key not in ("mark", "source")}):
            if path in merged:
                raise ValueError(f"'{owner}': {'.'.join(path)} is stated twice")
            merged[path] = (value, stamp)
    return merged


def _nest(flat: Mapping[Keys, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = value
    return tree
