"""`edgeact.export` and `edgeact.report` are functions and packages at once, whatever is imported first."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIGHT = "edgeact.export.models.pruning.plan"
IMPORTS = {
    "the package": "import edgeact",
    "a submodule first": f"import {LIGHT}; import edgeact.report.view",
    "the package, then submodules": f"import edgeact; import edgeact.report.view; import {LIGHT}",
    "names of submodules": f"from {LIGHT} import PruningPlan; from edgeact.report.view import Report; import edgeact",
    "the functions": "from edgeact import export, report; import edgeact; assert export is edgeact.export",
    "the functions, then submodules": f"import edgeact; edgeact.export; edgeact.report; import {LIGHT}",
    "under other names": "import edgeact.export as e, edgeact.report as r; import edgeact; assert e is edgeact.export",
    "all names": f"from edgeact import *; import edgeact; assert export is edgeact.export; import {LIGHT}",
}
CHECKS = f"""
import inspect
assert list(inspect.signature(edgeact.export).parameters)[:2] == ["model", "target"]
assert list(inspect.signature(edgeact.report).parameters)[0] == "inputs"
try:
    edgeact.export("no-such-model", tagret="cpu")
except TypeError as error:
    print(error)
try:
    edgeact.report("absent.edgeact")
except FileNotFoundError as error:
    print(type(error).__name__)
from {LIGHT} import PruningPlan
from edgeact.report.view import Report
from edgeact.report import render_html
assert inspect.ismodule(edgeact.export) and edgeact.export.models.pruning.plan.PruningPlan is PruningPlan
"""


@pytest.mark.parametrize("imports", IMPORTS.values(), ids=IMPORTS.keys())
def test_calls_and_imports_work_in_every_order(imports: str) -> None:
    done = subprocess.run([sys.executable, "-c", f"{imports}\n{CHECKS}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "export() got an unexpected keyword argument 'tagret'\nMissingFileError\n"


def test_an_absent_extra_says_what_to_install() -> None:
    """`find_spec` is what the check of extras asks; the module itself is installed here."""
    program = (
        "import importlib.util, edgeact\n"
        "find_spec = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'onnxscript' else find_spec(name, *rest)\n"
        "try:\n    edgeact.export('msf-r3d-fsam')\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "'onnxscript' is not installed; run: pip install 'edgeact[export]'\n"
