"""Reading board profiles: one TOML file per board, in groups of facts that share mark and source.

Values are allowed only in a `[[facts]]` group, which requires `mark` and `source`: so every value has a provenance.
Groups are merged; a value that is stated twice is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

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
Fact = tuple[object, Provenance]
Facts = dict[Keys, Fact]


def list_profiles() -> tuple[str, ...]:
    """Return the ids of all profiles, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml") if path.name != _RELEASES))


@cache
def load_profile(name: str) -> DeviceProfile:
    """Return the profile with this id or alias; raises UnknownNameError, which lists the nearest names."""
    profile_id = ALIASES.get(name, name)
    known = list_profiles()
    if profile_id not in known:
        raise UnknownNameError("target", name, (*known, *ALIASES))
    return parse_profile(profile_id, (_FOLDER / f"{profile_id}.toml").read_text(encoding="utf-8"))


def parse_profile(profile_id: str, text: str) -> DeviceProfile:
    """Return the profile in `text` (TOML); raises ValueError if the schema or a rule of this module is violated."""
    document = tomllib.loads(text)
    facts = _merge(document.pop("facts", []), profile_id)
    for release in _strings(facts.pop(("tensorrt",), None)):
        facts.update(_dialect(release, facts.get(("supports_int8",)), profile_id))
    fields = _nest({path: value for path, (value, _) in facts.items()})
    for name in ("modes", "tensorrt"):
        fields[name] = tuple({"name": key, **_mapping(part)} for key, part in _mapping(fields.get(name, {})).items())
    provenance = {".".join(path): stamp for path, (_, stamp) in facts.items()}
    return DeviceProfile.model_validate({"id": profile_id, **document, **fields, "provenance": provenance})


def jetpack_of_l4t(l4t: str) -> str | None:
    """Return the JetPack release of an L4T release such as '36.4.3', or None if it is unknown."""
    for path, (value, _) in _releases().items():
        if path[1:] == ("l4t", l4t):
            return str(value)
    return None


@cache
def _releases() -> Facts:
    document = tomllib.loads((_FOLDER / _RELEASES).read_text(encoding="utf-8"))
    return _merge(document["facts"], _RELEASES)


def _dialect(release: str, supports_int8: Fact | None, owner: str) -> Facts:
    """Return the facts of a release; on a GPU without INT8, `qdq` is false with the source of `supports_int8`."""
    facts = {("tensorrt", *path): fact for path, fact in _releases().items() if path[0] == release}
    if not facts:
        raise ValueError(f"'{owner}': unknown TensorRT release '{release}'; add it to {_RELEASES}")
    if supports_int8 and not supports_int8[0]:
        facts["tensorrt", release, "qdq"] = supports_int8
    return facts


def _merge(groups: Iterable[Mapping[str, object]], owner: str) -> Facts:
    merged: Facts = {}
    for group in groups:
        stamp = Provenance.model_validate({key: group[key] for key in ("mark", "source") if key in group})
        for path, value in leaves({key: item for key, item in group.items() if key not in ("mark", "source")}):
            if path in merged:
                raise ValueError(f"'{owner}': {'.'.join(path)} is stated twice")
            merged[path] = (value, stamp)
    return merged


def _nest(flat: Mapping[Keys, object]) -> dict[str, object]:
    tree: dict[str, object] = {}
    for path, value in flat.items():
        node = tree
        for key in path[:-1]:
            node = _mapping(node.setdefault(key, {}))
        node[path[-1]] = value
    return tree


def _mapping(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"expected a table, got {value!r}")
    return value


def _strings(fact: Fact | None) -> list[str]:
    value = [] if fact is None else fact[0]
    if not isinstance(value, list):
        raise ValueError(f"expected a list of names, got {value!r}")
    return [str(name) for name in value]
