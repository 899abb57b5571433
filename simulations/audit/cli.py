"""``homebody privacy audit``: plant canaries in the real pipeline, and say whether the claim holds.

Exit codes: 0 the claim holds, 1 it does not, or the run failed (which is no pass), 2 the caller's
mistake or something missing (one line on stderr). Test: tests/simulations/test_audit_cli.py.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TextIO

from simulations.progress import Progress

if TYPE_CHECKING:
    from simulations.audit.aggregation import Ports

HOLDS: Final = 0
FAILS: Final = 1
USAGE: Final = 2
PICTURE: Final = "audit.svg"
RESULT: Final = "audit.json"
_MECHANISMS: Final = ("blt", "gaussian", "histogram", "independent-rounds", "banded-toeplitz")
_EXAMPLES: Final = """\
examples:
  homebody privacy audit
                        epsilon 8, the default mechanism of training, and an attack on a model
  homebody privacy audit --epsilon 1 --mechanism gaussian
                        a smaller claim needs more canaries, and takes longer
  homebody privacy audit --skip-membership --json
                        for continuous integration: exit code 1 where the claim does not hold
  homebody privacy audit --out audit
                        also write audit/audit.svg, the scores of both groups, and audit/audit.json

words:
  canary            a person made up for the audit, in or not by the toss of a coin
  claimed epsilon   of what the ledger booked
  estimated epsilon of a Gaussian release that tells the two groups apart as well as was found
  lower bound       what the true epsilon exceeds, with 95 % confidence and no assumption; it is
                    weak: one run cannot prove more
"""


def main(
    argv: Sequence[str],
    *,
    ports: Ports | None = None,
    stdout: TextIO | None = None,
    stderr: TextIO | None = None,
) -> int:
    """Run the command.

    Args:
        argv: ``["audit", "--epsilon", …]``, as after ``homebody privacy``.
        ports: What the pipeline is built from, where it is not the shipped one.
        stdout: Where the verdict goes.
        stderr: Where progress and errors go.

    Returns:
        The exit code.
    """
    out, err = stdout or sys.stdout, stderr or sys.stderr
    words = list(argv)
    try:
        options = _parser().parse_args(words[1:] if words[:1] == ["audit"] else words)
    except _UsageError as error:
        return _complain(err, error, USAGE)
    except SystemExit as leaving:  # argparse has shown --help
        return int(leaving.code or 0)
    from aggregator.errors import AggregatorError
    from client_sdk.errors import HomebodyError
    from privacy.errors import PrivacyError

    progress = Progress(err, quiet=options.quiet)
    try:
        code = _audit(options, progress, out, ports)
    except (ValueError, _UsageError) as error:
        code = _complain(err, error, USAGE)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        code = _complain(err, f"{error.strerror or error}{where}", USAGE)
    except (HomebodyError, AggregatorError, PrivacyError) as error:
        code = _complain(err, error, FAILS)
    finally:
        progress.close()
    return code


class _UsageError(Exception):
    """The words on the command line cannot be used; the message is one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="homebody privacy audit",
        description=(
            "Plant canaries in a run of the real pipeline (devices, strategy, noise, ledger), try "
            "to tell who was in, and compare with what the ledger claims."
        ),
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--epsilon", type=_above_zero, default=8.0, metavar="E", help="the claim (%(default)g)"
    )
    parser.add_argument(
        "--delta", type=_share, default=1e-6, metavar="D", help="of the claim (%(default)g)"
    )
    parser.add_argument(
        "--mechanism",
        choices=_MECHANISMS,
        default="blt",
        metavar="NAME",
        help=f"one of {', '.join(_MECHANISMS)} (%(default)s)",
    )
    parser.add_argument(
        "--canaries", type=_whole, metavar="N", help="how many to plant (by epsilon: 1,000 or more)"
    )
    parser.add_argument(
        "--seed", type=_whole, metavar="S", help="repeat an audit; never for a real one"
    )
    parser.add_argument(
        "--skip-membership", action="store_true", help="without the attack on a published model"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write a picture and the result")
    parser.add_argument("--quiet", action="store_true", help="without progress")
    return parser


def _audit(
    options: argparse.Namespace, progress: Progress, out: TextIO, ports: Ports | None
) -> int:
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    progress.stage("loading")
    from simulations.audit.aggregation import AuditedMechanism, Claim
    from simulations.audit.verdict import audit, canaries_for

    claim = Claim(
        mechanism=AuditedMechanism(options.mechanism), epsilon=options.epsilon, delta=options.delta
    )
    count = canaries_for(claim) if options.canaries is None else options.canaries
    progress.stage(f"{count:,} canaries through the pipeline", total=count)
    result = audit(
        claim,
        canaries=count,
        seed=options.seed,
        ports=ports,
        on_progress=lambda _, done: progress.step(done),
    )
    values = result.to_values()
    if not options.skip_membership:
        progress.stage("an attack on a published model")
        from simulations.audit.membership import audit_bundled_membership

        attacked = audit_bundled_membership(claim, seed=options.seed or 0)
        result = result.with_looks(attacked.look)
        values = {**result.to_values(), "membership": attacked.to_values()}
    progress.close()
    text = json.dumps(values, indent=2, allow_nan=False)
    if options.out is not None:
        from simulations.audit.picture import draw

        (options.out / RESULT).write_text(text + "\n", encoding="utf-8")
        (options.out / PICTURE).write_text(draw(result), encoding="utf-8")
    out.write((text if options.json else readable(values)) + "\n")
    if options.out is not None and not options.json:
        out.write(f"written: {options.out / PICTURE}, {options.out / RESULT}\n")
    return HOLDS if result.holds else FAILS


def readable(values: dict[str, Any]) -> str:
    """Say the verdict in words.

    Args:
        values: What ``--json`` prints.
    """
    lines = [
        (
            f"audit of {values['mechanism']}: {values['canaries']:,} canaries, "
            f"{values['took_part']:,} of them in"
        ),
        "",
        f"  claimed     ε {values['claimed_epsilon']:.3f} at δ {values['delta']:g}",
        (
            f"  estimated   ε {_epsilon(values['estimated_epsilon'])}"
            f"  ({_epsilon(values['estimated_epsilon_low'])} to "
            f"{_epsilon(values['estimated_epsilon_high'])}, two standard errors)"
        ),
        (
            f"  lower bound ε {values['lower_bound']:.3f}  (valid with "
            f"{values['lower_bound_confidence']:.0%} confidence)"
        ),
        "",
        f"  {'look':<24}{'found':>10}{'allowed':>10}",
    ]
    for look in values["looks"]:
        mark = "  CONTRADICTS" if look["contradicts"] else ""
        lines.append(f"  {look['name']:<24}{look['found']:>10.4g}{look['allowed']:>10.4g}{mark}")
        lines.append(f"    {look['says']}")
    verdict = "the claim holds" if values["holds"] else "THE CLAIM DOES NOT HOLD"
    lines += [
        "",
        (
            f"{verdict} (a pipeline that keeps its promise is accused once in "
            f"{1.0 / values['false_alarm']:,.0f} audits at most)"
        ),
    ]
    return "\n".join(lines)


def _epsilon(value: float) -> str:
    return f"{value:.3f}" if value < 1_000.0 else "over 1,000"


def _number(kind: str, good: Callable[[float], bool]) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not good(value):
            raise argparse.ArgumentTypeError(f"expected {kind}; got {text[:40]!r}")
        return value

    return read


_above_zero: Final = _number("a number above 0 and at most 20", lambda value: 0.0 < value <= 20.0)
_share: Final = _number("a number between 0 and 1", lambda value: 0.0 < value < 1.0)


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"expected a whole number; got {text[:40]!r}")
    return int(text)


def _complain(stream: TextIO, problem: object, code: int) -> int:
    stream.write(f"homebody: error: {problem}\n")
    return code
