"""Play a scenario: ``python -m simulations.scenarios FILE``, or print the ``--schema`` of one.

A mistake in the file is one line on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simulations.scenarios.forms import ScenarioError
from simulations.scenarios.reading import FileMistakeError, read_scenario
from simulations.scenarios.scenario import scenario_schema


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, print, and write what was asked for; give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m simulations.scenarios", description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", help="a scenario, as TOML")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of a scenario")
    parser.add_argument("--seed", type=int, metavar="S", help="instead of the file's")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    options = parser.parse_args(arguments)
    if options.schema:
        print(json.dumps(scenario_schema(), indent=2))
        return 0
    if options.file is None:
        parser.error("a scenario file is needed")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        return _play(options)
    except (OSError, ValueError) as error:
        if not isinstance(error, OSError | FileMistakeError | ScenarioError) and not _is_ours(
            error
        ):
            raise
        said = error.strerror or "" if isinstance(error, OSError) else str(error)
        name = f"{options.file.name}: " if isinstance(error, OSError) else ""
        print(f"error: {name}{' '.join(said.split())}", file=sys.stderr)
        return 2


def _is_ours(error: Exception) -> bool:
    from simulations.data.interactions import DataError
    from simulations.settings import SettingsError

    return isinstance(error, DataError | SettingsError)


def _play(options: argparse.Namespace) -> int:
    from dataclasses import replace

    scenario = read_scenario(options.file)
    if options.seed is not None:
        scenario = replace(scenario, seed=options.seed)
    # Heavy, and not needed to tell a mistake in the file.
    from simulations.scenarios.play import Play, open_study
    from simulations.workspace import temporary_workspace

    results: list[dict[str, Any]] = []
    with temporary_workspace() as workspace:
        study = open_study(scenario, beside=options.file.parent, workspace=workspace)
        play = Play(scenario=scenario, study=study, workspace=workspace)
        print(f"{options.file.name}, seed {scenario.seed}: {play.people:,} people")
        for arm in play.arms:
            results.append(play.result(arm))
            _print(results[-1])
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


def _print(found: dict[str, Any]) -> None:
    accepted = found["accepted"]
    print(f"\n{found['arm']}")
    assumed = found["noise_scaled_to_people"]
    if assumed not in (None, found["people"]):
        print(f"  noise for an assumed population of {assumed:,} people")
    print(f"  accepted  {len(accepted)} tasks, {min(accepted):,} to {max(accepted):,} each")
    for reason, count in found["refusals"].items():
        print(f"  refused   {count:>9,}  {reason}")
    if found["discover"] is None:
        print("  nothing learned: the last task missed its quorum")
        return
    values = "  ".join(f"{name} {value:.4f}" for name, value in found["discover"].items())
    print(f"  new items {values}\n  bits      {found['sha256']}")


if __name__ == "__main__":
    sys.exit(main())
