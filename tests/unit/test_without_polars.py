"""Table functions run without Polars, so what they share with transform functions imports none of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.unit.shop import GOOD, KEY, Shop

SOURCE = Path(__file__).parents[2] / "src/silversmith"

SHARED = (
    *("silversmith.errors", "silversmith.events", "silversmith.faults", "silversmith.lineage"),
    *sorted(f"silversmith.stores.{path.stem}" for path in (SOURCE / "stores").glob("[!_]*.py")),
    *("silversmith.runtime.queue", "silversmith.runtime.telemetry"),
)

CODE = """
import importlib, sys
from pathlib import Path

sys.modules["polars"] = None  # whatever imports it gets an ImportError
folder, key, *modules = sys.argv[1:]
for module in modules:
    importlib.import_module(module)

from silversmith.lineage import Lineage
from silversmith.stores.local import LocalStore

folder = Path(folder)
store = LocalStore(folder / "silver", scratch=folder / "scratch", locks=folder / "locks", foreign_writers=False)
print(Lineage.from_metadata(store.head(f"orders/{key}.parquet").metadata).rows_written)
"""


def test_shared_modules_of_functions_read_lineage_without_polars(tmp_path: Path) -> None:
    Shop(tmp_path).process(GOOD)
    command = [sys.executable, "-c", CODE, str(tmp_path), KEY, *SHARED]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
