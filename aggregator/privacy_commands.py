"""``homebody privacy ledger|spend|verify|export|summary``: see, state and prove what was spent.

They only read: a SQLite file, a database's URL, or a file that ``export`` wrote.

Exit codes: 0 done, 1 the ledger was tampered with (its first wrong row is named) or the accountants
disagree, 2 the caller's mistake or something missing; one line on stderr. Test:
tests/aggregator/test_privacy_commands.py.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from aggregator.errors import AggregatorError
from aggregator.ledger_reading import Booked, booked, read_rows, to_csv, to_lines, when
from aggregator.spending import parts_of, scopes_of
from privacy.chain import Head, LedgerRow, RowKind, head_of, reservations_of, verify_chain
from privacy.errors import AccountantsDisagreeError, LedgerTamperedError, PrivacyError
from privacy.statement import PRV_MISSING

DONE: Final = 0
BROKEN: Final = 1
USAGE: Final = 2

_EXAMPLES: Final = """\
examples:
  homebody privacy ledger shop.sqlite            every row, in the order in which it was written
  homebody privacy spend shop.sqlite             epsilon by three accountants, for each population
  homebody privacy spend postgresql+psycopg://auditor@db/shop --json
  homebody privacy verify shop.sqlite            0: whole; 1: tampered with, and at which row
  homebody privacy verify shop.sqlite --head 214:9f31c0…
                                                 and nothing was cut off since you noted 214:9f31c0…
  homebody privacy export shop.sqlite --out 2026-Q4
                                                 2026-Q4.jsonl (verify reads it again), 2026-Q4.csv
  homebody privacy summary --ledger shop.sqlite --repository releases --out summary.html
                                                 a page to print: what leaves, what was spent, cards
  homebody privacy summary --ledger shop.sqlite --audit audit.json --json
                                                 the same for programs, with an audit's result

A reservation counts as spent until it is voided, so what is shown is never less than what happened.
Note the head that verify prints somewhere else: only so can a cut-off tail be noticed.
"""


def main(argv: Sequence[str]) -> int:
    """Run one command.

    Args:
        argv: ``["spend", "shop.sqlite", …]``, as after ``homebody privacy``.

    Returns:
        The exit code.
    """
    try:
        options = _parser().parse_args(list(argv))
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else USAGE
    except (LedgerTamperedError, AccountantsDisagreeError) as error:
        return _complain(str(error), BROKEN)
    except (AggregatorError, PrivacyError, ValueError) as error:
        return _complain(str(error), USAGE)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return _complain(f"{error.strerror or error}{where}", USAGE)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SystemExit(_complain(f"{message}; see {self.prog} --help", USAGE))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="homebody privacy", description="Read a privacy ledger.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    ledger = _command(commands, "ledger", _ledger, "show every row, in the order of writing")
    ledger.add_argument("--population", metavar="NAME", help="only rows about these people")
    spend = _command(commands, "spend", _spend, "state what each population has spent")
    spend.add_argument("--population", metavar="NAME", help="only these people")
    spend.add_argument(
        "--delta", type=_delta, metavar="D", help="in place of the budget's (0 < D < 1)"
    )
    verify = _command(commands, "verify", _verify, "check the ledger's chain")
    verify.add_argument(
        "--head", type=_head, metavar="ROW:HASH", help="a head that was noted earlier, elsewhere"
    )
    export = _command(commands, "export", _export, "write the ledger for whoever asks")
    export.add_argument(
        "--out", type=Path, required=True, metavar="NAME", help="writes NAME.jsonl and NAME.csv"
    )
    summary = _command(
        commands, "summary", _summary, "make a data-protection summary to print", named=True
    )
    summary.add_argument(
        "--repository", type=Path, metavar="DIR", help="of the releases, for their model cards"
    )
    summary.add_argument(
        "--audit", type=Path, metavar="FILE", help="what homebody privacy audit --json printed"
    )
    summary.add_argument(
        "--delta", type=_delta, metavar="D", help="in place of each budget's (0 < D < 1)"
    )
    summary.add_argument("--out", type=Path, metavar="FILE.html", help="write the page")
    return parser


def _command(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    *,
    named: bool = False,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    ledger = "a SQLite file, a URL, or an export"
    if named:
        parser.add_argument(
            "--ledger", dest="database", required=True, metavar="LEDGER", help=ledger
        )
    else:
        parser.add_argument("database", metavar="LEDGER", help=ledger)
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=run)
    return parser


def _ledger(options: argparse.Namespace) -> int:
    rows = read_rows(options.database)
    wrong: LedgerTamperedError | None = None
    try:
        _verified(rows)
    except LedgerTamperedError as error:
        wrong = error
    names = {row.reservation: _event(row) for row in rows if row.kind == RowKind.RESERVE}
    shown = [
        row
        for row in rows
        if options.population in (None, names.get(row.reservation, {}).get("population"))
    ]
    if options.json:
        whole = {"whole": wrong is None, "wrong_row": None if wrong is None else wrong.row}
        _say(json.dumps({"rows": [_plain(row) for row in shown], **whole}, indent=2))
    else:
        for row in shown:
            _say(_line(row, names.get(row.reservation, {})))
        _say(f"{len(shown):,} rows" + ("" if shown else ": nothing was booked yet"))
    if wrong is not None:
        return _complain(str(wrong), BROKEN)
    return DONE


def _spend(options: argparse.Namespace) -> int:
    rows = read_rows(options.database)
    found = _verified(rows)
    scopes = scopes_of(found)
    if options.population is not None:
        scopes = [scope for scope in scopes if scope.population == options.population]
        if not scopes:
            raise ValueError(f"nothing was booked for population {options.population!r}")
    _say_what_takes_long()
    told = [
        part
        for scope in scopes
        for part in parts_of(scope, [each for each in found if each.scope == scope], options.delta)
    ]
    head = head_of(rows)
    if options.json:
        _say(json.dumps({"spent": told, "head": f"{head.seq}:{head.hash}"}, indent=2))
        return DONE
    for part in told:
        _say(*_spent_lines(part))
    if not told:
        _say("nothing was booked yet")
    return DONE


def _spent_lines(part: dict[str, Any]) -> list[str]:
    if part["purpose"] is not None:
        return [
            (
                f"  of it, {_safe(part['purpose'])} in {_safe(part['window'])}: "
                f"ε {_number(part['epsilon_pld'])} at δ {part['delta']:g} "
                f"({part['releases']} releases)"
            )
        ]
    budget = part["budget"]
    of = "" if budget is None else f" of {budget['epsilon']:g} (budget, δ {budget['delta']:g})"
    bound = part["epsilon_prv_bound"]
    lines = [
        _safe(part["scope"]),
        f"  spent      ε {_number(part['epsilon_pld'])}{of}, at δ {part['delta']:g}, by PLD",
        f"  bound      ε {PRV_MISSING if bound is None else _number(bound)}, by Opacus' PRV",
        f"  check      ε {_number(part['epsilon_rdp'])}, by Rényi DP",
        (
            f"  releases   {part['committed']} committed, {part['reserved']} reserved, "
            f"{part['voided']} voided (not counted)"
        ),
    ]
    lines += [f"  neighbours {_safe(words)}" for words in part["adjacency"]]
    lines += [f"  trusted    {_safe(words)}" for words in part["trusted"]]
    lines += [f"  assumes    {_safe(words)}" for words in part["assumes"]]
    if part["simulated"]:
        lines.append("  a forecast of a simulation: no claim to the world")
    return lines


def _verify(options: argparse.Namespace) -> int:
    rows = read_rows(options.database)
    try:
        verify_chain(rows, noted=options.head)
        reservations_of(rows)
    except LedgerTamperedError as error:
        if options.json:
            _say(json.dumps({"whole": False, "wrong_row": error.row, "problem": str(error)}))
        raise
    head = head_of(rows)
    noted = f"{head.seq}:{head.hash}"
    if options.json:
        _say(json.dumps({"whole": True, "rows": len(rows), "head": noted}))
    else:
        _say(f"whole: {len(rows):,} rows", f"head:  {noted}")
    return DONE


def _export(options: argparse.Namespace) -> int:
    rows = read_rows(options.database)
    found = _verified(rows)
    targets = [options.out.with_name(options.out.name + suffix) for suffix in (".jsonl", ".csv")]
    for target in targets:
        _check_new(target)
    for target, text in zip(targets, (to_lines(rows), to_csv(found)), strict=True):
        target.write_text(text, encoding="utf-8", newline="")
    head = head_of(rows)
    if options.json:
        written = {"written": [str(target) for target in targets], "rows": len(rows)}
        _say(json.dumps({**written, "head": f"{head.seq}:{head.hash}"}))
    else:
        _say(*(f"wrote {target}" for target in targets), f"head: {head.seq}:{head.hash}")
    return DONE


def _summary(options: argparse.Namespace) -> int:
    from aggregator.protection_summary import read_audit, render_summary, summarise
    from aggregator.published import published_in

    if options.out is not None:
        _check_new(options.out)
    audit = None if options.audit is None else read_audit(options.audit.read_bytes())
    rows = read_rows(options.database)
    releases = () if options.repository is None else published_in(options.repository)
    _say_what_takes_long()
    summary = summarise(
        rows, made_at_s=time.time(), releases=releases, audit=audit, delta=options.delta
    )
    if options.out is not None:
        options.out.write_text(render_summary(summary), encoding="utf-8")
    if options.json:
        _say(json.dumps(summary, indent=2))
        return DONE
    for scope in summary["scopes"]:
        for part in (scope["total"], *scope["parts"]):
            _say(*_spent_lines(part))
    if not summary["scopes"]:
        _say("nothing was booked yet")
    if audit is not None:
        verdict = "does not contradict" if audit["holds"] else "CONTRADICTS"
        _say(f"the audit {verdict} the claim")
    _say(f"head: {summary['ledger']['head']}")
    if options.out is None:
        _say("--out FILE.html writes the page to print")
    else:
        _say(f"wrote {options.out}")
    return DONE


def _check_new(target: Path) -> None:
    """Refuse what could only fail after the work was done, or would overwrite something."""
    if not target.name or not target.absolute().parent.is_dir():
        raise ValueError(f"there is no folder {target.absolute().parent} to write to")
    if target.exists():
        raise ValueError(f"{target} is there already; choose another name")


def _verified(rows: Sequence[LedgerRow]) -> tuple[Booked, ...]:
    verify_chain(rows)
    return booked(rows, reservations_of(rows))


def _plain(row: LedgerRow) -> dict[str, Any]:
    try:
        body: Any = json.loads(row.body)
    except (ValueError, RecursionError):
        body = row.body
    return {**vars(row), "at": when(row.at_ms), "body": body}


def _event(row: LedgerRow) -> dict[str, Any]:
    """Read a reservation's event without believing it; empty where it is none."""
    try:
        event = json.loads(row.body)["event"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}


def _line(row: LedgerRow, event: dict[str, Any]) -> str:
    plain = _plain(row)["body"]
    body = plain if isinstance(plain, dict) else {}
    if row.kind == RowKind.RESERVE:
        rounds = f", {event['rounds']} rounds" if event.get("rounds", 1) != 1 else ""
        what = (
            f"{event.get('kind')} for {event.get('population')}: {event.get('mechanism')}, "
            f"noise multiplier {event.get('noise_multiplier')}{rounds}, "
            f"window {event.get('window', 'all time')}"
        )
    elif row.kind == RowKind.COMMIT:
        what = f"{body.get('accepted')} reports in the sum"
    elif row.kind == RowKind.VOID:
        what = f"never released: {body.get('reason')}"
    else:
        what = ", ".join(f"{key} {value}" for key, value in body.items())
    return _safe(f"{row.seq:6} {when(row.at_ms)} {row.kind:8} {row.reservation[:8]} {what}")


def _safe(text: str) -> str:
    """Whatever a row says, it is one line and moves no cursor."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _delta(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 < value < 1.0:
        raise argparse.ArgumentTypeError(f"delta lies between 0 and 1; got {text[:20]!r}")
    return value


def _head(text: str) -> Head:
    found = re.fullmatch(r"(\d{1,18}):([0-9a-f]{64})", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"a head is ROW:HASH as verify prints; got {text[:20]!r}")
    return Head(seq=int(found[1]), hash=found[2])


def _say_what_takes_long() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("… asking three accountants (the first time takes ten seconds)\n")


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")


def _complain(problem: str, code: int) -> int:
    sys.stderr.write(f"homebody: error: {problem}\n")
    return code
