"""Export your own torch.nn.Module: one bundle for this CPU, compared with PyTorch and measured.

    python examples/export_your_module.py weights.pt clips/ colors.edgeact

`clips/` holds one folder of videos per class. Replace TinyNet by your module and the options by its clip contract.
"""

import sys

from torch import Tensor, nn, relu

import edgeact

LABELS = ("blue", "dark", "green", "red")


class TinyNet(nn.Module):
    """Two 3-D convolutions and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 16, kernel_size=3, stride=(1, 2, 2), padding=1)
        self.norm = nn.BatchNorm3d(16)
        self.body = nn.Conv3d(16, 16, kernel_size=3, padding=1)
        self.head = nn.Linear(16, len(LABELS))

    def forward(self, clip: Tensor) -> Tensor:
        """Return logits `(1, classes)` of a clip, float32 `(1, 3, T, H, W)`."""
        activation = relu(self.norm(self.stem(clip)))
        logits: Tensor = self.head(relu(self.body(activation)).mean(dim=(2, 3, 4)))
        return logits


def main(weights: str, clips: str, out: str) -> None:
    bundle = edgeact.export(
        TinyNet(), "cpu", data=clips, out=out, weights=weights, labels=LABELS, clip_frames=4, size=32, fps=8.0
    )
    for row in bundle.measurements.rows if bundle.measurements else ():
        latency = f"{row.latency.p50_ms:.3f} ms" if row.latency else "not timed"
        print(f"{row.artifact:16} {row.precision:5} top-1 {row.accuracy[-1].top1:.0%}  {latency:12} {row.verdict}")
    print(f"wrote {bundle.path}; runs first: {bundle.manifest.preferred[0]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
