"""The command's front door: ``homebody COMMAND …`` finds the folder that does the work.

It imports nothing but the standard library until a command is chosen, so that ``--help`` answers at
once on any machine. Exit codes: 0 done, 1 failed, 2 the caller's mistake or something missing,
130 interrupted, 141 the reader of the output went away.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Final, TextIO

DONE: Final = 0
USAGE: Final = 2
INTERRUPTED: Final = 130
READER_GONE: Final = 141


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command: where it lives, what it is for, and the extra that brings what it needs."""

    module: str
    summary: str
    extra: str


COMMANDS: Final[Mapping[str, Command]] = MappingProxyType(
    {
        "demo": Command(
            module="simulations.cli",
            summary="798 real shoppers' devices learn together; a table and a report",
            extra="simulation",
        ),
        "simulate": Command(
            module="simulations.cli",
            summary="the same on your own events",
            extra="simulation",
        ),
        "device": Command(
            module="client_sdk.cli",
            summary="look into a store, export, erase it, change consent",
            extra="keyring",
        ),
        "server": Command(
            module="aggregator.cli",
            summary="set up and run the model server",
            extra="server",
        ),
    }
)

# What a command may lack when its extra was not installed.
_OPTIONAL: Final = frozenset(
    {
        *("dp_accounting", "fastapi", "flwr", "jinja2", "matplotlib", "opacus", "psycopg"),
        *("scipy", "sqlalchemy", "tensorflow", "torch", "uvicorn"),
    }
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after ``homebody``; those of the process when left out.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # Nobody reads any more; without this the interpreter complains while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    return code


def _dispatch(words: list[str]) -> int:
    """Answer what needs no command, or hand over to the one that was asked for."""
    name = words[0] if words else ""
    if name in {"-h", "--help", "help"}:
        return _show_help(sys.stdout)
    if name == "--version":
        sys.stdout.write(f"homebody {_version()}\n")
        return DONE
    if name in COMMANDS:
        return _run(COMMANDS[name], words)
    if not name:
        _show_help(sys.stderr)
        return USAGE
    return _complain(f"there is no {_quoted(name)}{_near(name)}; see homebody --help", USAGE)


def _run(command: Command, words: list[str]) -> int:
    """Load the command's module and run it; say which extra is missing where one is."""
    try:
        run = import_module(command.module).main
        return int(run(words))
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _OPTIONAL:
            cure = f"pip install 'homebody[{command.extra}]'"
            return _complain(f"{words[0]} needs {missing}, which is not installed: {cure}", USAGE)
        if error.name is not None and command.module.startswith(error.name):
            return _complain(f"{words[0]} is not part of this installation", USAGE)
        raise


def _show_help(stream: TextIO) -> int:
    """Write what there is."""
    width = max(map(len, COMMANDS))
    lines = (f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items())
    stream.write(
        "usage: homebody [--help] [--version] COMMAND ...\n\n"
        "Personalization that stays home: learns and decides on the device,\n"
        "shares only bounded, noised sums.\n\n"
        "commands:\n" + "\n".join(lines) + "\n\nhomebody COMMAND --help tells more.\n"
    )
    return DONE


def _near(name: str) -> str:
    """Give the command that was probably meant."""
    import difflib

    close = difflib.get_close_matches(name, COMMANDS, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _quoted(name: str) -> str:
    """Name what was asked for, cut and on one line."""
    kind = "option" if name.startswith("-") else "command"
    return f"{kind} {name[:40]!r}"


def _version() -> str:
    """Give the installed version."""
    from importlib import metadata

    try:
        return metadata.version("homebody")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _complain(problem: str, code: int) -> int:
    """Write one line to stderr and give the exit code."""
    sys.stderr.write(f"homebody: error: {problem}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
