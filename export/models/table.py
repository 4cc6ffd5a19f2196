"""The registry as a Markdown table: `python -m edgeact.export.models.table`."""

from __future__ import annotations

import torch

from edgeact.export.models.cost import measure_cost
from edgeact.export.models.published import published_figures
from edgeact.export.models.registry import find_model

__all__ = ["registry_table"]


def registry_table() -> str:
    """Name, clip, published and counted parameters, GMACs, one line a model."""
    lines = ["| name | clip | parameters, paper | parameters, here | GMACs, here |", "| --- | --- | --- | --- | --- |"]
    for figure in published_figures():
        spec = find_model(figure.model)
        options = spec.options(figure.classes)
        with torch.device("meta"):
            cost = measure_cost(spec.build(options), options.input_shape)
        published = f"{figure.parameters_m:.2f} M" if figure.parameters_m else "not printed"
        clip = f"{options.clip_frames}x{options.size[0]}x{options.size[1]}"
        counted = f"{cost.parameters / 1e6:.2f} M | {cost.macs / 1e9:.2f}"
        lines.append(f"| `{spec.name}` | {clip} | {published} | {counted} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(registry_table())
