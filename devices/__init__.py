"""Board profiles, the probe of the machine at hand, its sensors, and roofline estimates."""

from edgeact.devices.profile import DeviceProfile, PowerMode, Provenance, TensorRtDialect
from edgeact.devices.registry import ALIASES, list_profiles, load_profile, parse_profile

__all__ = [
    "ALIASES",
    "DeviceProfile",
    "PowerMode",
    "Provenance",
    "TensorRtDialect",
    "list_profiles",
    "load_profile",
    "parse_profile",
]
