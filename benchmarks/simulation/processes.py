"""Engines as processes of their own, one after the other: what they report, and what they took.

Rules a reader can check line by line:

1. One engine runs at a time, each time in a fresh process, so that nothing of another one is in
   memory or on a processor.
2. An engine reports in the last line that it prints: one JSON object.
3. Memory is the process's own peak; of a tree of processes (Ray's), the peak of the sum of their
   proportional shares, sampled, so that what they share counts once.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ONE_THREAD: Final = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "NUMEXPR_NUM_THREADS",
    ),
    "1",
)
_QUIET: Final = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "PYTHONWARNINGS": "ignore",
}
_SAMPLE_S: Final = 0.5
_TIMEOUT_S: Final = 600.0
_ROOT: Final = Path(__file__).resolve().parents[2]


class EngineFailedError(RuntimeError):
    """An engine is not there, or did not finish; the message says which and what to do."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How to start an engine.

    Attributes:
        name: In the tables and the result.
        python: The interpreter of its environment.
        module: What to run.
        rounds: Timed rounds in each repetition.
        arguments: Beside the workload, the rounds and the sum.
        is_tree: Whether it starts processes of its own.
    """

    name: str
    python: Path
    module: str
    rounds: int
    arguments: tuple[str, ...] = ()
    is_tree: bool = False


def check_present(engines: Sequence[Engine], needs: Mapping[str, Sequence[str]]) -> None:
    """Find out, before anything is measured, whether every engine could run.

    Args:
        engines: Those to be run.
        needs: Module to the packages that its environment must have.

    Raises:
        EngineFailedError: one can't.
    """
    for engine in engines:
        wanted = ", ".join(needs.get(engine.module, ()))
        code = f"import {wanted}" if wanted else ""
        try:
            done = subprocess.run(
                [str(engine.python), "-c", code],
                capture_output=True,
                text=True,
                check=False,
                timeout=_TIMEOUT_S,
                env={**os.environ, **_QUIET},
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EngineFailedError(
                f"{engine.name}: {engine.python} does not run; `make bench-simulation` makes it"
            ) from error
        if done.returncode != 0:
            raise EngineFailedError(
                f"{engine.name}: {engine.python} has no {wanted}; `make bench-simulation` "
                "installs it"
            )


def run_engine(
    engine: Engine, *, workload: Path, scratch: Path, total: Path | None = None
) -> dict[str, Any]:
    """Run one engine once.

    Args:
        engine: Which.
        workload: The file.
        scratch: A folder for what the engine keeps.
        total: Where it shall write the first round's sum.

    Returns:
        What it reported, with ``peak_rss_mb``.

    Raises:
        EngineFailedError: it ended early, or reported nothing.
    """
    command = [str(engine.python), "-m", engine.module, "--workload", str(workload)]
    command += ["--rounds", str(engine.rounds), *engine.arguments]
    if total is not None:
        command += ["--sum", str(total)]
    home = scratch / "flower-home"
    home.mkdir(exist_ok=True)
    errors = scratch / "errors.txt"
    with errors.open("w", encoding="utf-8") as stderr:
        started = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=_ROOT,
            env={
                **os.environ,
                **ONE_THREAD,
                **_QUIET,
                "PYTHONPATH": str(_ROOT),
                "FLWR_HOME": str(home),
            },
        )
    memory = _TreeMemory(started.pid) if engine.is_tree else None
    try:
        printed, _ = started.communicate(timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        started.kill()
        started.communicate()
        raise EngineFailedError(f"{engine.name}: not done after {_TIMEOUT_S:.0f} s") from error
    finally:
        peak_mb = None if memory is None else memory.stop()
    lines = printed.strip().splitlines()
    try:
        found: dict[str, Any] = json.loads(lines[-1] if lines else "")
        seconds = found["seconds"]
    except (ValueError, KeyError, TypeError) as error:
        said = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = said[-1] if said else "it said nothing"
        raise EngineFailedError(
            f"{engine.name}: ended with code {started.returncode}: {last}"
        ) from error
    if started.returncode != 0 or len(seconds) != engine.rounds:
        raise EngineFailedError(f"{engine.name}: ended with code {started.returncode}")
    if peak_mb is not None:
        found["peak_rss_mb"] = peak_mb
    return found


class _TreeMemory:
    """Watches a process and all that it starts; Linux only."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak_kb = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float | None:
        """Give the peak in MiB; None where the system does not tell."""
        self._done.set()
        self._thread.join()
        return self._peak_kb / 1024 if self._peak_kb else None

    def _watch(self) -> None:
        while not self._done.wait(_SAMPLE_S):
            self._peak_kb = max(self._peak_kb, sum(map(_share_kb, _tree_of(self._pid))))


def _tree_of(pid: int) -> set[int]:
    """Find a process and its descendants."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in brackets, may hold anything; the state and the parent come after it.
            fields = entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            parents[int(entry.parent.name)] = int(fields[1])
        except (OSError, ValueError, IndexError):
            continue
    found, grew = {pid}, True
    while grew:
        more = {child for child, parent in parents.items() if parent in found} - found
        found |= more
        grew = bool(more)
    return found


def _share_kb(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return 0
