"""What a process that uses the SDK loads and holds."""

import subprocess
import sys

HEAVY = ("tensorflow", "flwr", "fastapi", "torch", "tuf", "cryptography", "ai_edge_litert")

IMPORT = f"""
import sys
import client_sdk
print([name for name in {(*HEAVY, "numpy", "sqlite3")!r} if name in sys.modules])
client_sdk.Homebody, client_sdk.Catalogue, client_sdk.Event
import client_sdk.testing, client_sdk.federation, client_sdk.signals, client_sdk.home
print([name for name in {HEAVY!r} if name in sys.modules])
"""

# 1,604 items are those of the bundled sample.
WORK = """
import tempfile
from pathlib import Path
from client_sdk import Catalogue, Homebody, Item
items = tuple(
    Item(item_id=f"SKU-{n}", name=f"Item {chr(97 + n % 26) * 4} {n}", category=f"c{n % 20}")
    for n in range(1604)
)
with tempfile.TemporaryDirectory() as folder:
    with Homebody.open(Path(folder) / "home", catalogue=Catalogue(items=items)) as home:
        home.consent.grant("personalise")
        for n in range(140):
            home.track("purchase", item=f"SKU-{n * 7}")
        assert len(home.rank(k=10)) == 10
# Not getrusage: its maximum begins with that of the process that started this one.
status = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


def run(code: str) -> list[str]:
    """Run code in a process of its own; give the lines that it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_import_loads_nothing_heavy() -> None:
    """Importing the package loads the standard library; its rooms load numpy and nothing more."""
    assert run(IMPORT) == ["[]", "[]"]


def test_process_that_tracks_and_ranks_stays_small() -> None:
    """Open, track and rank 1,604 items in less than 120 MB."""
    (kilobytes,) = run(WORK)
    assert int(kilobytes) < 120 * 1024
