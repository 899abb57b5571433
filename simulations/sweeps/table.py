"""Everything that a sweep found as one Parquet: a row for each cell, seed, arm and split.

`COLUMNS` is the documentation; the file carries it in its schema's metadata. Seconds are not in it,
so that the same sweep gives the same bytes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from simulations.evaluation.metrics import METRICS
from simulations.evaluation.split import PROTOCOLS
from simulations.judging import SEGMENTS
from simulations.report.files import OutputError
from simulations.scenarios.scenario import Task
from simulations.sweeps.cell import Job, summary_of

_DESCRIBED: Final = {
    "sweep": ("string", "name of the sweep"),
    "cell": ("int64", "number of the settings in the sweep's file; none for arms beside"),
    "arm": ("string", "together, or the name of an arm to compare with"),
    "split": ("string", "validation, which chose, or test, which reports"),
    "seed": ("int64", "of everything that was drawn"),
    "chosen": ("bool", "whether these settings were chosen for their epsilon and population"),
    "epsilon": ("float64", "the budget; none without noise"),
    "delta": ("float64", "probability that the claim fails; none without noise"),
    "epsilon_spent": ("float64", "what the accountant says was spent, at delta"),
    "people": ("int64", "people who were simulated"),
    "noise_population": ("int64", "people that the noise is scaled to; none without noise"),
    "population_assumed": ("bool", "whether these are more people than were simulated"),
    "trusted": ("string", "whom a person must trust, for arms beside"),
    "task": ("string", "what devices contributed"),
    "rounds": ("int64", "rounds of item training"),
    "cohort": ("int64", "people invited to a round; none for everybody"),
    "clip": ("float64", "clip norm; none for the recipe's"),
    "top_items": ("int64", "items that the statistics cover; none where it was suggested"),
    "min_separation": ("int64", "fewest rounds between two of a person; none as turns allow"),
    "tasks": ("int64", "tasks that were run"),
    "invited": ("int64", "invitations, over all tasks"),
    "accepted": ("int64", "contributions that were added, over all tasks"),
    "refused": ("int64", "invitations that gave no contribution, over all tasks"),
    "failed": ("string", "why there are no numbers; none where there are"),
    "table_sha256": ("string", "digest of the learned table's bits"),
}


def _metric_columns() -> dict[str, tuple[str, str]]:
    found = {}
    for metric in METRICS:
        name = metric.replace("@", "_at_")
        for protocol in PROTOCOLS:
            found[f"{protocol}_{name}"] = ("float64", f"{metric} of the protocol {protocol}")
        for segment in SEGMENTS:
            found[f"{segment}_{name}"] = ("float64", f"{metric} of discover, {segment} people")
    return found


COLUMNS: Final[Mapping[str, tuple[str, str]]] = {**_DESCRIBED, **_metric_columns()}
"""Column to its type and what it says."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Finding:
    """What one job found.

    Attributes:
        job: Which.
        found: What (`simulations.sweeps.cell.Bench.find`).
        chosen: Whether its settings were chosen.
        people: How many were simulated.
        delta: Of the claim.
        task: Its settings; None for arms beside.
    """

    job: Job
    found: Mapping[str, Any]
    chosen: bool
    people: int
    delta: float
    task: Task | None

    def row(self, name: str) -> dict[str, Any]:
        """Give the row of the table."""
        job, found = self.job, self.found
        goal = job.cell.goal if job.cell is not None else job.goal
        noisy = goal is not None and goal.is_private
        population = (goal.population or self.people) if goal is not None and noisy else None
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        row |= {
            "sweep": name,
            "cell": None if job.cell is None else job.cell.number,
            "arm": job.arm,
            "split": job.split,
            "seed": job.seed,
            "chosen": self.chosen,
            "epsilon": goal.epsilon if goal is not None and noisy else None,
            "delta": self.delta if noisy else None,
            "epsilon_spent": found.get("spent"),
            "people": self.people,
            "noise_population": population,
            "population_assumed": population is not None and population != self.people,
            "trusted": found.get("trusted"),
            "failed": found.get("failed"),
            "table_sha256": found.get("sha256"),
        }
        if self.task is not None:
            row |= {"task": self.task.kind, **summary_of(found)}
            for key in ("rounds", "cohort", "clip", "top_items", "min_separation"):
                row[key] = getattr(self.task, key)
        for metric in METRICS:
            column = metric.replace("@", "_at_")
            for part in ("metrics", "segments"):
                for where, values in found.get(part, {}).items():
                    row[f"{where}_{column}"] = values.get(metric)
        return row


def require_parquet() -> None:
    """Find out, before long work, whether a table can be written.

    Raises:
        OutputError: pyarrow is not installed.
    """
    if find_spec("pyarrow") is None:
        raise OutputError("a sweep's table needs pyarrow: pip install 'homebody[sweeps]'")


def write_table(findings: Sequence[Finding], path: Path, *, name: str) -> None:
    """Write the table, whole or not at all.

    Raises:
        OutputError: it cannot be written, or pyarrow is not installed.
    """
    require_parquet()
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema(
        [
            pa.field(column, getattr(pa, {"bool": "bool_"}.get(kind, kind))(),
                     metadata={"says": says})
            for column, (kind, says) in COLUMNS.items()
        ]
    )  # fmt: skip
    table = pa.Table.from_pylist([each.row(name) for each in findings], schema=schema)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            parquet.write_table(table, beside, compression="zstd")
            Path(beside).chmod(0o644)
            Path(beside).replace(path)
        finally:
            Path(beside).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror})") from error
