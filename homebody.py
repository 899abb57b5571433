"""The command's front door: ``homebody COMMAND …`` finds the folder that does the work.

It imports nothing but the standard library until a command is chosen, so that ``--help`` answers at
once on any machine. Exit codes: 0 done, 1 failed, 2 the caller's mistake or something missing,
130 interrupted, 141 the reader of the output went away.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import Final, TextIO

_HELP: Final = frozenset({"-h", "--help", "help"})
DONE: Final = 0
USAGE: Final = 2
INTERRUPTED: Final = 130
READER_GONE: Final = 141


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command: where it lives, what it is for, and the extra that brings what it needs.

    A command of several folders has ``parts``, each a command of its own, in place of a module.
    """

    summary: str
    module: str = ""
    extra: str = ""
    parts: Mapping[str, Command] = field(default_factory=dict)


COMMANDS: Final[Mapping[str, Command]] = MappingProxyType(
    {
        "demo": Command(
            module="simulations.cli",
            summary="798 real shoppers' devices learn together; a table and a report",
            extra="simulation",
        ),
        "simulate": Command(
            module="simulations.cli",
            summary="the same on your own events, or on synthetic people",
            extra="simulation",
        ),
        "population": Command(
            summary="synthetic people that are like real ones, as many as a simulation wants",
            parts={
                "fit": Command(
                    module="simulations.population_commands",
                    summary="from an events file to a model of its people, a small JSON file",
                    extra="simulation",
                ),
                "make": Command(
                    module="simulations.population_commands",
                    summary="from a model and a seed to a folder of people for simulate --people",
                    extra="simulation",
                ),
            },
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
        "privacy": Command(
            summary="plan a privacy budget, see and prove what was spent",
            parts={
                "plan": Command(
                    module="privacy.cli",
                    summary="from people, rounds and epsilon to mechanism, noise and utility",
                    extra="privacy",
                ),
                "sign": Command(
                    module="privacy.policy_commands",
                    summary="put a name, a day and a signature under the plan that was chosen",
                    extra="privacy",
                ),
                "check": Command(
                    module="privacy.policy_commands",
                    summary="is a policy signed, unaltered, and not expired? exit code 1: no",
                    extra="privacy",
                ),
                "ledger": Command(
                    module="aggregator.privacy_commands",
                    summary="every release that was booked, row by row",
                    extra="server",
                ),
                "spend": Command(
                    module="aggregator.privacy_commands",
                    summary="what each population has spent, by three accountants",
                    extra="server",
                ),
                "verify": Command(
                    module="aggregator.privacy_commands",
                    summary="check the ledger's chain; exit code 1 names the row",
                    extra="server",
                ),
                "export": Command(
                    module="aggregator.privacy_commands",
                    summary="the ledger as JSON lines and CSV, for whoever asks",
                    extra="server",
                ),
                "summary": Command(
                    module="aggregator.privacy_commands",
                    summary="a data-protection summary to print, from ledger and model cards",
                    extra="server",
                ),
                "audit": Command(
                    module="simulations.audit.cli",
                    summary="put the claim to the test with canaries; exit code 1: it fails",
                    extra="simulation",
                ),
            },
        ),
    }
)

# What a command may lack when its extra was not installed.
_OPTIONAL: Final = frozenset(
    {
        *("dp_accounting", "fastapi", "flwr", "implicit", "jinja2", "matplotlib", "opacus"),
        *("psycopg", "ray", "scipy", "sqlalchemy", "tensorflow", "threadpoolctl", "torch"),
        "uvicorn",
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
    if name in _HELP:
        return _show_help(sys.stdout)
    if name == "--version":
        sys.stdout.write(f"homebody {_version()}\n")
        return DONE
    if name in COMMANDS:
        command = COMMANDS[name]
        return _run_part(command, words) if command.parts else _run(command, words)
    if not name:
        _show_help(sys.stderr)
        return USAGE
    near = _near(name, COMMANDS)
    return _complain(f"there is no {_quoted(name)}{near}; see homebody --help", USAGE)


def _run_part(command: Command, words: list[str]) -> int:
    """Hand over to a part of a command; its module gets its name and what follows."""
    name = words[1] if len(words) > 1 else ""
    if name in _HELP:
        return _show_parts(words[0], command, sys.stdout)
    if name in command.parts:
        return _run(command.parts[name], words[1:], said=f"{words[0]} {name}")
    if not name:
        _show_parts(words[0], command, sys.stderr)
        return USAGE
    near = _near(name, command.parts)
    return _complain(
        f"{words[0]} has no {_quoted(name)}{near}; see homebody {words[0]} --help", USAGE
    )


def _run(command: Command, words: list[str], *, said: str = "") -> int:
    """Load the command's module and run it; say which extra is missing where one is."""
    name = said or words[0]
    try:
        run = import_module(command.module).main
        return int(run(words))
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _OPTIONAL:
            cure = f"pip install 'homebody[{command.extra}]'"
            return _complain(f"{name} needs {missing}, which is not installed: {cure}", USAGE)
        if error.name is not None and command.module.startswith(error.name):
            return _complain(f"{name} is not part of this installation", USAGE)
        raise


def _show_help(stream: TextIO) -> int:
    """Write what there is."""
    stream.write(
        "usage: homebody [--help] [--version] COMMAND ...\n\n"
        "Personalization that stays home: learns and decides on the device,\n"
        "shares only bounded, noised sums.\n\n"
        f"commands:\n{_listed(COMMANDS)}\n\nhomebody COMMAND --help tells more.\n"
    )
    return DONE


def _show_parts(name: str, command: Command, stream: TextIO) -> int:
    """Write what a command of several parts has."""
    summary = command.summary[0].upper() + command.summary[1:]
    stream.write(
        f"usage: homebody {name} [--help] COMMAND ...\n\n{summary}.\n\n"
        f"commands:\n{_listed(command.parts)}\n\nhomebody {name} COMMAND --help tells more.\n"
    )
    return DONE


def _listed(commands: Mapping[str, Command]) -> str:
    """Write one line a command."""
    width = max(map(len, commands))
    return "\n".join(f"  {name:<{width}}  {command.summary}" for name, command in commands.items())


def _near(name: str, commands: Mapping[str, Command]) -> str:
    """Give the command that was probably meant."""
    import difflib

    close = difflib.get_close_matches(name, commands, n=1)
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
