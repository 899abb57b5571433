"""The MovieLens benchmark without the data, which the product may not carry."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "movielens.py"


def test_movielens_data_absent_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    """Whoever lacks the data reads where it was looked for, and no traceback."""
    run = subprocess.run(
        [sys.executable, str(SCRIPT), "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert run.stdout == ""
    assert len(run.stderr.strip().splitlines()) == 1
    assert "--data" in run.stderr


@pytest.mark.slow
def test_movielens_without_noise_stays_at_what_was_measured() -> None:
    """One round of exact statistics keeps its .108, .722 and .451 (full, sampled, NDCG)."""
    shared = Path(os.environ.get("HOMEBODY_SHARED", SCRIPT.parents[2] / "shared")) / "data"
    if not (shared / "ml-1m").is_dir():
        pytest.skip("MovieLens-1M is not on this machine")
    code = (
        "import runpy, sys; from pathlib import Path; "
        f"m = runpy.run_path({str(SCRIPT)!r}); p = m['Population'](m['load'](Path(sys.argv[1]))); "
        "t = m['learn'](p, epsilon=None, times=1, seed=0, statistics=m['CLEAN'], "
        "length_power=m['CLEAN_LENGTH_POWER']); "
        "f = m['evaluate'](p, t); "
        "print(f['full HR@10'], f['sampled HR@10'], f['sampled NDCG@10'])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(shared / "ml-1m")],
        capture_output=True,
        text=True,
        check=True,
    )
    full, sampled, ndcg = map(float, run.stdout.split())
    assert full >= 0.108
    assert sampled >= 0.718
    assert ndcg >= 0.451
