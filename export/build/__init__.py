"""The build: a recipe and the stages that make a measured bundle of it.

built = build(Recipe(target="cpu"), out=Path("model.edgeact"))
print(built.bundle.manifest.preferred)
"""

from edgeact.export.build.compression import Compression
from edgeact.export.build.data import DataPlan
from edgeact.export.build.pipeline import STAGES, build, through
from edgeact.export.build.recipe import PRECISIONS, Recipe, read_recipe
from edgeact.export.build.state import Build

__all__ = ["PRECISIONS", "STAGES", "Build", "Compression", "DataPlan", "Recipe", "build", "read_recipe", "through"]
