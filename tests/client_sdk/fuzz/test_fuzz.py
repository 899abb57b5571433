"""Bounded, coverage-guided fuzzing of everything that reads bytes or JSON on the device."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
RUNS = {
    "event": 200_000,
    "row": 150_000,
    "adapter": 100_000,
    "taxonomy": 40_000,
    "import": 20_000,
    "store": 8_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("target", RUNS)
def test_fuzzed_input_is_taken_or_refused_and_never_crashes(
    target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fuzzer finds no input that is neither taken nor refused as promised."""
    pytest.importorskip("atheris", reason="atheris is not made for this system")
    runs = RUNS[target] * int(os.environ.get("HOMEBODY_FUZZ_TIMES", "1"))
    done = subprocess.run(
        [sys.executable, str(HERE / "run.py"), target, str(runs), "1"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(HERE.parents[2])},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{target}: {runs} inputs tried" in done.stdout
    with capsys.disabled():
        sys.stdout.write(f" {done.stdout.strip()} ")
