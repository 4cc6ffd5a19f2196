"""Board profiles, the probe of this machine, its sensors, and roofline estimates."""

from edgeact.devices.probe import (
    instruction_sets,
    is_this_machine,
    machine_identity,
    matching_profiles,
    probe_board,
    probe_machine,
    usable_cores,
)
from edgeact.devices.profile import DeviceProfile, PowerMode, Provenance, TensorRtDialect
from edgeact.devices.registry import ALIASES, list_profiles, load_profile, parse_profile
from edgeact.devices.roofline import DENSE, GROUPED, Estimate, Utilization, estimate_latency_ms
from edgeact.devices.sensors import SensorReading, read_sensors

__all__ = [
    "ALIASES",
    "DENSE",
    "GROUPED",
    "DeviceProfile",
    "Estimate",
    "PowerMode",
    "Provenance",
    "SensorReading",
    "TensorRtDialect",
    "Utilization",
    "estimate_latency_ms",
    "instruction_sets",
    "is_this_machine",
    "list_profiles",
    "load_profile",
    "machine_identity",
    "matching_profiles",
    "parse_profile",
    "probe_board",
    "probe_machine",
    "read_sensors",
    "usable_cores",
]
