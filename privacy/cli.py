"""``homebody privacy plan``: what a privacy budget buys, before anybody is asked.

Exit codes: 0 planned, 1 every mechanism drowns in noise and a policy was asked for, 2 the caller's
mistake or something missing (one line on stderr). Test: tests/privacy/test_cli.py.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from client_sdk.wire import TaskKind

DONE: Final = 0
DROWNS: Final = 1
USAGE: Final = 2

_EXAMPLES: Final = """\
examples:
  homebody privacy plan --population 100000 --report-goal 1000 --rounds 500 \\
      --epsilon 2 --delta 1e-6
                        what 500 rounds of 1,000 people cost and bring, for every mechanism

  ... --out policy.toml
                        also write the best one as a policy file, to read, sign and keep
                        (homebody privacy sign)
  ... --mechanism blt --out policy.toml
                        or the one you choose
  ... --what-if plan.svg
                        also draw epsilon against rounds and people, and utility against epsilon
  ... --poisson         also the price if people were drawn by independent coins (they are not,
                        where devices check in when they can)
  ... --json            for programs

words:
  report goal       people in one round; the fixed number that each sum is divided by
  min separation    rounds between two reports of one device; its device enforces it
  noise multiplier  deviation of the noise over the sensitivity of the whole release
  relative error    norm of the model's noise over the largest that its signal can have
  verdict           yes; weak: under half of the gain is left; no: it drowns in noise
"""


def main(argv: Sequence[str]) -> int:
    """Run one command.

    Args:
        argv: ``["plan", "--population", …]``, as after ``homebody privacy``.

    Returns:
        The exit code.
    """
    words = list(argv)
    try:
        options = _parser().parse_args(words[1:] if words[:1] == ["plan"] else words)
        return _plan(options)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else USAGE
    except ValueError as error:
        return _complain(str(error))
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return _complain(f"{error.strerror or error}{where}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SystemExit(_complain(f"{message}; see {self.prog} --help"))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="homebody privacy plan",
        description=(
            "From people, rounds and a budget to the mechanisms that are honest for them: noise, "
            "sensitivity, error, what may be left of the gain, and epsilon by three accountants."
        ),
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    need = parser.add_argument_group("what is needed")
    need.add_argument("--population", type=_count, required=True, metavar="N", help="people")
    need.add_argument(
        "--report-goal", type=_count, required=True, metavar="M", help="people in one round"
    )
    need.add_argument("--rounds", type=_count, required=True, metavar="T", help="rounds")
    need.add_argument(
        "--epsilon", type=_number, required=True, metavar="E", help="what all of it may cost"
    )
    need.add_argument("--delta", type=_number, required=True, metavar="D", help="usually 1e-6")
    more = parser.add_argument_group("what may be said")
    more.add_argument(
        "--task",
        choices=[kind.value for kind in TaskKind],
        default=TaskKind.ITEM_TRAINING.value,
        metavar="TASK",
        help=f"one of {', '.join(kind.value for kind in TaskKind)} (%(default)s)",
    )
    more.add_argument(
        "--min-separation",
        type=_count,
        metavar="B",
        help="rounds between two reports of one device (the most that the people allow)",
    )
    more.add_argument(
        "--max-participations",
        type=_count,
        metavar="K",
        help="reports of one device in the run (as many as fit)",
    )
    more.add_argument(
        "--availability",
        type=_number,
        default=0.5,
        metavar="SHARE",
        help="people that can be reached within B rounds (%(default)s)",
    )
    more.add_argument(
        "--dimension", type=_count, metavar="D", help="length of the vector (usual for the task)"
    )
    more.add_argument("--poisson", action="store_true", help="also with Poisson sampling")
    more.add_argument("--curve", metavar="NAME", help="recorded utility to predict from")
    to = parser.add_argument_group("where it goes")
    to.add_argument("--json", action="store_true", help="for programs")
    to.add_argument("--out", type=Path, metavar="FILE", help="write a policy file to sign")
    to.add_argument(
        "--mechanism", metavar="NAME", help="which mechanism's policy (the recommended one)"
    )
    to.add_argument(
        "--clip-norm",
        type=_number,
        default=1.0,
        metavar="C",
        help="in the policy: largest norm of one contribution (%(default)s)",
    )
    to.add_argument(
        "--population-name", default="everyone", metavar="NAME", help="in the policy (%(default)s)"
    )
    to.add_argument(
        "--what-if",
        type=Path,
        metavar="FILE",
        help="draw FILE (.svg or .png) and write its numbers beside it as .json",
    )
    return parser


def _plan(options: argparse.Namespace) -> int:
    from privacy.costs import Costs, costs_of
    from privacy.plan_request import Request
    from privacy.planner import best_of, plans_for
    from privacy.statement import Statement, statement
    from privacy.utility_curves import load_curves

    request = Request(
        population=options.population,
        report_goal=options.report_goal,
        rounds=options.rounds,
        epsilon=options.epsilon,
        delta=options.delta,
        task=TaskKind(options.task),
        min_separation=options.min_separation,
        max_participations=options.max_participations,
        poisson=options.poisson,
        availability=options.availability,
        dimension=options.dimension,
    )
    _check_targets(options)
    curves = load_curves()
    plans = plans_for(request, curves=curves, curve=options.curve, tell=_tell)
    chosen = _chosen(plans, options.mechanism) if options.mechanism else best_of(plans)
    _tell("asking three accountants (the first time takes ten seconds)")
    costs: dict[Costs, Statement] = {}
    rows = []
    for plan in plans:
        # Without sampling all of them have one price: the budget's.
        price = costs_of([plan.event()])
        if price not in costs:
            costs[price] = statement([plan.event()], request.delta)
        rows.append(_values(plan, costs[price], recommended=plan is chosen))
    written: list[Path] = []
    if options.what_if is not None:
        from privacy.what_if import draw

        _tell("drawing what would be if")
        written += draw(request, plans, curves=curves, to=options.what_if)
    if options.out is not None and chosen is not None:
        policy = _policy(chosen, request, options.population_name, options.clip_norm)
        options.out.write_text(policy.to_toml(), encoding="utf-8")
        written.append(options.out)
    if options.json:
        written_names = [str(path) for path in written]
        _say(json.dumps({"plans": rows, "written": written_names, **_about(request)}, indent=2))
    else:
        _show(request, rows, curves, [str(path) for path in written])
    if options.out is not None and chosen is None:
        _complain(
            f"no policy was written to {options.out}: every mechanism drowns in noise "
            "(--mechanism NAME insists)"
        )
        return DROWNS
    return DONE


def _check_targets(options: argparse.Namespace) -> None:
    """Refuse what could only fail after the work was done."""
    from privacy.clipping import MAX_CLIP_NORM

    name = options.population_name
    if not name or not name.isprintable() or len(name) > 200:
        raise ValueError("--population-name must be 1 to 200 printable characters")
    if not 0.0 < options.clip_norm <= MAX_CLIP_NORM:
        raise ValueError(f"--clip-norm must be above 0 and at most {MAX_CLIP_NORM:g}")
    if options.mechanism is not None and options.out is None:
        raise ValueError("--mechanism says which policy to write; it needs --out FILE")
    if options.what_if is not None and options.what_if.suffix not in (".svg", ".png"):
        raise ValueError(f"--what-if needs a .svg or .png file; got {options.what_if.name!r}")
    if options.what_if is not None:
        from importlib.util import find_spec

        if find_spec("matplotlib") is None:
            raise ValueError("--what-if needs matplotlib: pip install 'homebody[simulation]'")
    for path in (options.out, options.what_if):
        if path is not None and not path.absolute().parent.is_dir():
            raise ValueError(f"there is no folder {path.absolute().parent} to write {path.name} to")
        if path is not None and path.is_dir():
            raise ValueError(f"{path} is a folder, not a file to write")


def _chosen(plans: Sequence[Any], name: str) -> Any:
    for plan in plans:
        if name == plan.name:
            return plan
    known = ", ".join(repr(plan.name) for plan in plans)
    raise ValueError(f"there is no plan {name!r}; there are {known}")


def _policy(plan: Any, request: Any, population: str, clip_norm: float) -> Any:
    from privacy.policy import Policy

    return Policy(
        population=population,
        people=request.population,
        report_goal=plan.report_goal,
        rounds=plan.rounds,
        task=plan.task,
        epsilon=request.epsilon,
        delta=request.delta,
        mechanism=plan.mechanism,
        noise_multiplier=plan.noise_multiplier,
        factorisation=plan.factorisation,
        sampling_probability=plan.sampling_probability,
        clip_norm=clip_norm,
    )


def _values(plan: Any, cost: Any, *, recommended: bool) -> dict[str, Any]:
    """One plan as plain values; the keys that programs may rely on come first."""
    event = plan.event()
    told = cost.to_values()
    prediction = plan.prediction
    return {
        "mechanism": plan.mechanism.value,
        "noise_multiplier": plan.noise_multiplier,
        "sensitivity": plan.sensitivity,
        "rho": plan.rho,
        "epsilon_pld": told["epsilon_pld"],
        "epsilon_prv_bound": told["epsilon_prv_bound"],
        "epsilon_rdp": told["epsilon_rdp"],
        "delta": told["delta"],
        "min_separation": event.min_separation,
        "max_participations": event.max_participations,
        "relative_error": plan.relative_error,
        "assumes": list(plan.assumes),
        "name": plan.name,
        "task": plan.task.value,
        "rounds": plan.rounds,
        "report_goal": plan.report_goal,
        "dimension": plan.dimension,
        "noise_per_entry": plan.noise_per_entry,
        "sampling_probability": plan.sampling_probability,
        "factorisation": None if plan.factorisation is None else plan.factorisation.to_values(),
        "predicted": None
        if prediction is None
        else {
            "utility": prediction.utility,
            "gain_kept": prediction.gain_kept,
            "outside": prediction.outside,
            "curve": prediction.curve,
        },
        "verdict": plan.verdict,
        "why": plan.why,
        "recommended": recommended,
    }


def _about(request: Any) -> dict[str, Any]:
    from privacy.events import ADJACENCY, TRUSTED

    separation, participations = request.participation
    return {
        "population": request.population,
        "epsilon": request.epsilon,
        "min_separation": separation,
        "max_participations": participations,
        "adjacency": ADJACENCY,
        "trusted": TRUSTED,
        "warnings": list(request.warnings()),
    }


def _show(
    request: Any, rows: Sequence[dict[str, Any]], curves: Sequence[Any], written: Sequence[str]
) -> None:
    about = _about(request)
    _say(
        f"{request.population:,} people, {request.report_goal:,} in each of {request.rounds:,} "
        f"rounds, epsilon {request.epsilon:g} at delta {request.delta:g}",
        f"one device at most {about['max_participations']} times, at least "
        f"{about['min_separation']} rounds apart",
        "",
        f"  {'mechanism':27} {'noise':>8} {'sensi-':>8} {'relative':>8} {'epsilon':>8} {'PRV':>8} "
        f"{'RDP':>8}  {'worth it':8}",
        f"  {'':27} {'multipl.':>8} {'tivity':>8} {'error':>8} {'(PLD)':>8} {'bound':>8}",
    )
    for row in rows:
        _say(
            f"{'>' if row['recommended'] else ' '} {row['name']:27} {row['noise_multiplier']:8.4f} "
            f"{row['sensitivity']:8.3f} {row['relative_error']:8.3f} "
            f"{_short(row['epsilon_pld'])} {_short(row['epsilon_prv_bound'])} "
            f"{_short(row['epsilon_rdp'])}  {row['verdict']:5} {row['why']}"
        )
    _say("")
    for row in rows:
        if row["rounds"] != request.rounds:
            _say(
                f"{row['name']}: instead of rounds, {row['task']} of {row['report_goal']:,} people "
                "at once, from one release"
            )
        if row["sampling_probability"] is not None:
            _say(f"{row['name']} assumes {row['assumes'][0]}")
    for name in dict.fromkeys(row["predicted"]["curve"] for row in rows if row["predicted"]):
        curve = next(curve for curve in curves if curve.name == name)
        _say(
            f"{curve.task.value}: gain as recorded on {curve.data} ({curve.metric} "
            f"{curve.without_learning:.3f} without, {curve.without_noise:.3f} with everybody's "
            f"data and no noise; {curve.command})"
        )
    _say(f"neighbours: {about['adjacency']}", f"trusted: {about['trusted']}")
    for warning in about["warnings"]:
        _say(f"careful: {warning}")
    for path in written:
        _say(f"wrote {path}")


def _short(number: Any) -> str:
    return f"{number:8.4f}" if isinstance(number, float) else f"{number or '–':>8}"


def _count(text: str) -> int:
    plain = text.replace("_", "").replace(",", "")
    if not plain.isascii() or not plain.isdigit() or not 1 <= int(plain) <= 10**12:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1; got {text[:20]!r}")
    return int(plain)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a number; got {text[:20]!r}") from None


def _tell(doing: str) -> None:
    """Say what takes a while, to stderr, where somebody watches."""
    if sys.stderr.isatty():
        sys.stderr.write(f"… {doing}\n")
        sys.stderr.flush()


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")


def _complain(problem: str) -> int:
    sys.stderr.write(f"homebody: error: {problem}\n")
    return USAGE
