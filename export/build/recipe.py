"""The recipe of a bundle: everything that decides what a build makes, as JSON that travels in the bundle."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from edgeact.bundle import open_bundle
from edgeact.errors import MissingFileError, UsageError
from edgeact.export.build.compression import Compression
from edgeact.export.build.data import DataPlan
from edgeact.export.models.loading import LoadRequest
from edgeact.precision import Precision

__all__ = ["PRECISIONS", "RECIPE_MEMBER", "PrecisionChoice", "Recipe", "read_recipe"]

PrecisionChoice = Literal["auto", "fp32", "fp16", "mixed", "int8"]

PRECISIONS: dict[PrecisionChoice, tuple[Precision, ...]] = {
    "auto": ("int8", "fp16", "fp32"),
    "fp32": ("fp32",),
    "fp16": ("fp16",),
    "mixed": ("int8",),
    "int8": ("int8",),
}

RECIPE_MEMBER = "recipe.json"
"""Path of the recipe in a bundle."""

_VERSION = "1.0"


@dataclass(frozen=True)
class Recipe:
    """What a build makes, from the model's source to the target; two builds of one recipe on machines of one kind give
    the same artifacts.

    A recipe in a bundle is resolved: the clip, the labels and the digests are those of the build. Digests that are not
    empty are checked when the recipe is built again.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    target: str
    """Device profile or family alias, see `edgeact targets`."""
    source: str | None = None
    """Registry name or 'package.module:factory', or the class name of a module object; None: the shipped model."""
    is_module_object: bool = False
    """Whether the model was passed as a module object, which must be passed again to build the recipe again."""
    load: LoadRequest = field(default_factory=LoadRequest)
    """Weights, labels, width and clip contract."""
    weights_sha256: str = ""
    """Digest of the loaded weights, before pruning; empty: not resolved."""
    data: DataPlan = field(default_factory=lambda: DataPlan(None))
    """Data set, calibration clips and method, evaluation videos, seed."""
    data_digest: str = ""
    """Digest of the evaluation videos; empty: not resolved, or their labels are not the model's."""
    compression: Compression | None = None
    """Pruning by layer, and the fine-tuning after it; None: no pruning."""
    precision: PrecisionChoice = "auto"
    """'auto' also tries mixed precision if INT8 is not accurate enough; 'mixed' is INT8 with layers kept in float."""
    float_modules: tuple[str, ...] = ()
    """Modules of the model whose layers are kept in float, whatever that costs in latency."""
    max_drop_points: float = 1.0
    """Accuracy budget: points of top-1 that an artifact may lose against PyTorch."""
    sensitivity: bool = False
    """Whether the damage of INT8 by layer is recorded even if INT8 is accurate enough."""
    threads: int | None = None
    """CPU threads to measure with; None: all."""
    schema_version: str = _VERSION

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Precisions to build candidates in."""
        return PRECISIONS[self.precision]

    def to_json(self) -> bytes:
        """Return the recipe as indented UTF-8 JSON."""
        return _ADAPTER.dump_json(self, indent=1) + b"\n"

    @classmethod
    def from_json(cls, data: bytes, name: str = "recipe") -> Recipe:
        """Return the recipe in `data`; `name` names the source of it in messages.

        Raises UsageError for anything but a recipe of this major version.
        """
        try:
            recipe = _ADAPTER.validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            field_name = ".".join(map(str, first["loc"])) or "document"
            raise UsageError(
                f"'{name}' is no recipe: {field_name}: {first['msg']}; expected JSON of a Recipe"
            ) from error
        if recipe.schema_version.partition(".")[0] != _VERSION.partition(".")[0]:
            raise UsageError(
                f"'{name}' has recipe version {recipe.schema_version}, this edgeact reads {_VERSION}; use the release "
                "that wrote the recipe"
            )
        return recipe


_ADAPTER = TypeAdapter(Recipe)


def read_recipe(path: Path) -> Recipe:
    """Read the recipe in a bundle or a JSON file.

    Raises UsageError if there is none, BundleError if the bundle is damaged.
    """
    if path.suffix != ".edgeact":
        try:
            return Recipe.from_json(path.read_bytes(), str(path))
        except OSError as error:
            kind = MissingFileError if isinstance(error, FileNotFoundError) else UsageError
            raise kind(
                f"cannot read the recipe '{path}': {error.strerror or error}; expected a JSON file or a bundle"
            ) from error
    bundle = open_bundle(path)
    if RECIPE_MEMBER not in {member.path for member in bundle.manifest.members}:
        raise UsageError(f"bundle '{path}' has no recipe: a release before recipes wrote it; export the model again")
    return Recipe.from_json(bundle.read(RECIPE_MEMBER), f"{path}:{RECIPE_MEMBER}")
