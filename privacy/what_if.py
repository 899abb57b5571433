"""What would be if: ε against rounds and people, utility against ε; as numbers and as a picture.

Guarantee: each ε is that of the exact Gaussian curve for the participation that goes with the
changed number (`privacy.plan_request`); a picture states no claim, it helps to choose.

| panel | changed | held |
|---|---|---|
| ε against rounds | T | noise of a round, in clip norms; report goal, people, min separation |
| ε against people | N | a run: noise of a round, report goal, rounds; one release: noise of the \
mean |
| utility against ε | ε, for three populations | rounds, report goal · people, curve |

Strategies keep their coefficients when T or b changes; so the curves are what happens to a plan
that was made, not what a new plan could reach. Sampled plans are left out.

Test: tests/privacy/test_what_if.py.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from privacy.factorisation import MAX_ROUNDS, Factorisation, FactorisationName
from privacy.gaussian import epsilon_of, noise_multiplier_for
from privacy.plan_request import Request
from privacy.planner import Plan, predicted
from privacy.utility_curves import UtilityCurve

ROUNDS_FACTORS: Final = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
PEOPLE_FACTORS: Final = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0, 10.0)
EPSILONS: Final = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
POPULATIONS: Final = (1, 10, 100)
_COLOURS: Final = ("#24313a", "#b9bec2", "#dca95a", "#5aa3b5", "#17664a")
_DASHES: Final = ("-", "--", ":")


def numbers(
    request: Request, plans: Sequence[Plan], *, curves: Sequence[UtilityCurve]
) -> dict[str, Any]:
    """Work out every line.

    Args:
        request: What was planned.
        plans: By which mechanisms; without sampling.
        curves: Recorded utility.

    Returns:
        Plain values: ``epsilon_against_rounds`` and ``epsilon_against_people`` (mechanism to points
        of the number and ε), ``utility_against_epsilon`` (mechanism to population to points of ε
        and gain kept; relative error where no utility was recorded).
    """
    own = [plan for plan in plans if plan.sampling_probability is None]
    runs = [plan for plan in own if plan.factorisation is not None]
    return {
        "epsilon_against_rounds": {plan.name: _against_rounds(request, plan) for plan in runs},
        "epsilon_against_people": {plan.name: _against_people(request, plan) for plan in own},
        "utility_against_epsilon": {plan.name: _utility(request, plan, curves) for plan in own},
        "held": {
            "population": request.population,
            "report_goal": request.report_goal,
            "rounds": request.rounds,
            "epsilon": request.epsilon,
            "delta": request.delta,
            "min_separation": request.participation[0],
        },
    }


def draw(
    request: Request, plans: Sequence[Plan], *, curves: Sequence[UtilityCurve], to: Path
) -> list[Path]:
    """Write the picture, and the numbers beside it as JSON.

    Args:
        request: What was planned.
        plans: By which mechanisms.
        curves: Recorded utility.
        to: A path that ends with ``.svg`` or ``.png``.

    Returns:
        What was written.

    Raises:
        OSError: it can't be written.
    """
    found = numbers(request, plans, curves=curves)
    picture = _picture(found, to.suffix.removeprefix("."))
    beside = to.with_suffix(".json")
    to.write_bytes(picture)
    beside.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return [to, beside]


def _against_rounds(request: Request, plan: Plan) -> list[dict[str, float]]:
    separation, _ = request.participation
    points = []
    for factor in ROUNDS_FACTORS:
        rounds = min(MAX_ROUNDS, max(1, round(request.rounds * factor)))
        fitting = min(separation, rounds)
        if rounds * request.report_goal <= request.population * -(-rounds // fitting):
            epsilon = _epsilon(request, plan, rounds=rounds, separation=fitting)
            points.append({"rounds": rounds, "epsilon": epsilon})
    return points


def _against_people(request: Request, plan: Plan) -> list[dict[str, float]]:
    points = []
    for factor in PEOPLE_FACTORS:
        people = round(request.population * factor)
        possible = int(people * request.availability) // request.report_goal
        if possible < 1:
            continue
        if plan.factorisation is None:
            # Everybody is asked: the mean stays as noisy, so the noise on the sum may grow.
            sigma = plan.noise_multiplier * people / request.population
            epsilon = epsilon_of(delta=request.delta, noise_multiplier=sigma)
        else:
            separation = min(possible, request.rounds)
            epsilon = _epsilon(request, plan, rounds=request.rounds, separation=separation)
        points.append({"people": people, "epsilon": epsilon})
    return points


def _epsilon(request: Request, plan: Plan, *, rounds: int, separation: int) -> float:
    """Return ε where the noise of a round stays what was planned."""
    changed = _changed(plan.factorisation, rounds=rounds, separation=separation)
    noise = plan.noise_multiplier * plan.sensitivity
    return epsilon_of(delta=request.delta, noise_multiplier=noise / changed.sensitivity())


def _changed(run: Factorisation | None, *, rounds: int, separation: int) -> Factorisation:
    if run is None:
        raise ValueError("only a run of rounds can have other rounds")
    bands = run.coefficients
    if run.name is FactorisationName.BANDED_TOEPLITZ:
        bands = bands[:rounds]
    return replace(
        run,
        rounds=rounds,
        min_separation=separation,
        max_participations=-(-rounds // separation),
        coefficients=bands,
    )


def _utility(
    request: Request, plan: Plan, curves: Sequence[UtilityCurve]
) -> dict[str, list[dict[str, float]]]:
    lines: dict[str, list[dict[str, float]]] = {}
    for times in POPULATIONS:
        points = []
        for epsilon in EPSILONS:
            sigma = noise_multiplier_for(epsilon=epsilon, delta=request.delta)
            # With more people the report goal grows, and the participation stays what it is.
            other = replace(
                plan, noise_multiplier=sigma, report_goal=plan.report_goal * times, epsilon=epsilon
            )
            other = predicted(other, request, curves)
            point = {"epsilon": epsilon, "relative_error": other.relative_error}
            if other.prediction is not None:
                point["gain_kept"] = other.prediction.gain_kept
            points.append(point)
        lines[str(request.population * times)] = points
    return lines


def _picture(found: dict[str, Any], kind: str) -> bytes:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14.0, 4.4), layout="constrained")
    rounds, people, utility = figure.subplots(1, 3)
    names = list(found["utility_against_epsilon"])
    colours = {name: _COLOURS[at % len(_COLOURS)] for at, name in enumerate(names)}
    for axes, key, of in (
        (rounds, "epsilon_against_rounds", "rounds"),
        (people, "epsilon_against_people", "people"),
    ):
        for name, points in found[key].items():
            axes.plot(
                [point[of] for point in points],
                [point["epsilon"] for point in points],
                color=colours[name],
                marker="o",
                markersize=3,
                label=name,
            )
        axes.set(xlabel=of, ylabel=f"ε at δ {found['held']['delta']:g}", xscale="log")
        axes.axvline(found["held"]["rounds" if of == "rounds" else "population"], color="#e4e2da")
        axes.axhline(found["held"]["epsilon"], color="#e4e2da")
    measured = False
    for name, lines in found["utility_against_epsilon"].items():
        for dash, (many, points) in zip(_DASHES, lines.items(), strict=True):
            kept = [point.get("gain_kept") for point in points]
            measured = measured or None not in kept
            utility.plot(
                [point["epsilon"] for point in points],
                [point["relative_error"] for point in points] if None in kept else kept,
                color=colours[name],
                linestyle=dash,
                label=f"{name}, {int(many):,} people",
            )
    utility.set(xlabel="ε", ylabel="gain kept" if measured else "relative error", xscale="log")
    utility.legend(fontsize=6, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    if found["epsilon_against_rounds"]:
        rounds.legend(fontsize=7, frameon=False)
    rounds.set_title("more rounds, same noise a round", fontsize=9)
    people.set_title("more people, same noise a round", fontsize=9)
    utility.set_title("more budget, more people", fontsize=9)
    for axes in (rounds, people, utility):
        axes.spines[["top", "right"]].set_visible(False)
    stream = io.BytesIO()
    # The same bytes each time.
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "what-if"}):
        figure.savefig(stream, format=kind, metadata=metadata)
    return stream.getvalue()
