"""``homebody device``: look into a store on disk, take it along, change consent, erase it.

The person's own door to their data, on their own machine; nothing here talks to a network. A
mistake is one line on stderr. Exit codes: 0 done, 1 the store could not be used or has problems,
2 the words on the command line cannot be used. What each command does is in `commands`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn, TextIO

from client_sdk import commands
from client_sdk.commands import DONE, FAILED, USAGE, Answer, UsageError

_EXAMPLES: Final = """\
examples:
  homebody device show ada/                what is known, in plain words
  homebody device features ada/ --json     every feature, for a machine
  homebody device consent ada/ --withdraw train
  homebody device export ada/ ada.jsonl    everything, in an open format
  homebody device doctor ada/              is the store sound, and what to do

The key is looked for in ada.keys/, where the SDK puts it by default; --keys names another folder,
--keyring the desktop's key store. An app that has the store open must close it first.
"""


class _Parser(argparse.ArgumentParser):
    """Raises a mistake as one line instead of printing the usage and leaving."""

    def error(self, message: str) -> NoReturn:
        """Refuse."""
        raise UsageError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str], *, stdout: TextIO | None = None, stderr: TextIO | None = None) -> int:
    """Run one command on one store.

    Args:
        argv: ``device`` and its words.
        stdout: Where the answer goes.
        stderr: Where an error goes.

    Returns:
        The exit code.
    """
    out, err = stdout or sys.stdout, stderr or sys.stderr
    try:
        options = _parser().parse_args(list(argv[1:]))
    except UsageError as error:
        return _complain(err, error, USAGE)
    except SystemExit as leaving:  # argparse has shown --help
        return int(leaving.code or DONE)
    from client_sdk.errors import HomebodyError

    run: Callable[[argparse.Namespace], Answer] = options.run
    try:
        answer = run(options)
    except UsageError as error:
        return _complain(err, error, USAGE)
    except (HomebodyError, OSError) as error:
        return _complain(err, _told(error), FAILED)
    text = json.dumps(answer.value, indent=1, ensure_ascii=False) if options.json else None
    out.write((text if text is not None else "\n".join(answer.lines)) + "\n")
    return answer.code


def _parser() -> _Parser:
    parser = _Parser(
        prog="homebody device",
        description="Look into a store on this machine: what is known, consent, export, erasure.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    chosen = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    def command(name: str, run: Callable[[argparse.Namespace], Answer], what: str) -> _Parser:
        added = chosen.add_parser(name, help=what, description=what, allow_abbrev=False)
        added.add_argument("store", type=Path, help="the folder that the app gave to Homebody.open")
        added.add_argument("--profile", metavar="ID", help="which person of a household")
        keys = added.add_mutually_exclusive_group()
        keys.add_argument(
            "--keys", type=Path, metavar="DIR", help="folder of the key (default: STORE.keys)"
        )
        keys.add_argument(
            "--keyring", action="store_true", help="the key lies in the desktop's key store"
        )
        added.add_argument("--json", action="store_true", help="print JSON, for machines")
        added.set_defaults(run=run)
        return added

    command("show", commands.show, "say in plain words what is known, and what left")
    command("features", commands.features, "list every feature: value, window, meaning")
    consent = command("consent", commands.consent, "show consent, give it, or take it back")
    consent.add_argument(
        "--grant", action="append", default=[], metavar="PURPOSE", help="after reading the text"
    )
    consent.add_argument(
        "--withdraw", action="append", default=[], metavar="PURPOSE", help="counts at once"
    )
    consent.add_argument(
        "--records", action="store_true", help="receipts with the fields of ISO/IEC TS 27560 (JSON)"
    )
    export = command("export", commands.export, "write everything to a file (JSON Lines)")
    export.add_argument("file", type=Path, help="an older file is replaced once this is complete")
    imported = command("import", commands.import_, "take back an export: all of it, or nothing")
    imported.add_argument("file", type=Path, help="a file that export wrote")
    imported.add_argument(
        "--kinds", type=Path, metavar="FILE", help="the app's own kinds of events (TOML)"
    )
    erase = command("erase", commands.erase, "destroy the key, then the files, for good")
    erase.add_argument("--yes", action="store_true", help="really")
    command("decisions", commands.decisions, "list what was decided, the latest last")
    why = command("why", commands.why, "say why a decision came out so, and replay it")
    why.add_argument(
        "decision", nargs="?", metavar="DECISION", help="its id, or how it begins; default: latest"
    )
    command("doctor", commands.doctor, "check the store, and say what to do")
    return parser


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror.lower()}"
    return str(error)


def _complain(stream: TextIO, problem: object, code: int) -> int:
    stream.write(f"homebody: error: {problem}\n")
    return code
