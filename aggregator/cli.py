"""``homebody server``: set up, run, look at and roll back the model server.

Exit codes: 0 done, 1 the server would answer but devices would refuse it, 2 the caller's mistake or
something missing (one line on stderr). Test: tests/aggregator/test_cli.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from aggregator.errors import AggregatorError
from client_sdk.wire import ReleaseManifest

DONE: Final = 0
UNHEALTHY: Final = 1
USAGE: Final = 2

_EXAMPLES: Final = """\
examples:
  homebody server init --dir releases        make keys and an empty, signed repository
  homebody server run --dir releases         serve it on http://127.0.0.1:8080
  homebody server status --dir releases      which release is served, and until when it is fresh
  homebody server rollback --dir releases --to 3
                                             serve the files of release 3 again, as a new release

The app embeds releases/metadata/1.root.json: with it a device trusts this repository, and no other.
Whoever holds the keys can publish; back them up, and move keys/root.pem to a safe place.
"""


def main(argv: Sequence[str]) -> int:
    """Run one command.

    Args:
        argv: ``["server", "init", "--dir", …]``, as after ``homebody``.

    Returns:
        The exit code.
    """
    words = list(argv)
    parser = _parser()
    try:
        options = parser.parse_args(words[1:] if words[:1] == ["server"] else words)
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else USAGE
    except (AggregatorError, ValueError) as error:
        return _complain(str(error))
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return _complain(f"{error.strerror or error}{where}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SystemExit(_complain(f"{message}; see {self.prog} --help"))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="homebody server",
        description=(
            "The model server hands out signed releases. It holds nothing about anyone, needs no "
            "secret to serve, and keeps no record of who asked."
        ),
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    init = _command(commands, "init", _init, "make keys and an empty, signed repository")
    init.add_argument("--keys", type=Path, help="folder for the keys (DIR/keys)")

    run = _command(commands, "run", _run, "serve a repository, and keep its timestamp fresh")
    run.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    run.add_argument("--port", type=_port, default=8080, help="0 for any free one (%(default)s)")
    run.add_argument("--tls-cert", type=Path, help="PEM certificate chain; with --tls-key")
    run.add_argument("--tls-key", type=Path, help="PEM private key; with --tls-cert")
    run.add_argument(
        "--no-refresh",
        action="store_true",
        help="never sign here; another machine, which has the keys, keeps the timestamp fresh",
    )

    status = _command(commands, "status", _status, "show which release is served")
    status.add_argument("--json", action="store_true", help="for programs")

    rollback = _command(commands, "rollback", _rollback, "serve an older release's files again")
    rollback.add_argument("--to", type=int, required=True, metavar="N", help="release number")
    rollback.add_argument("--keys", type=Path, help="folder of the keys (DIR/keys)")
    return parser


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], summary: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dir", type=Path, required=True, help="folder of the repository")
    parser.set_defaults(run=run)
    return parser


def _init(options: argparse.Namespace) -> int:
    from aggregator.repository import KEYS_DIRECTORY, Repository

    repository = Repository.init(options.dir, keys_directory=options.keys)
    keys = options.keys or repository.directory / KEYS_DIRECTORY
    _say(
        f"made a signed repository in {repository.directory}",
        f"  embed in the app:   {repository.directory / 'metadata' / '1.root.json'}",
        f"  keep secret:        {keys} (back it up; move root.pem to a safe place)",
        f"  serve it:           homebody server run --dir {repository.directory}",
    )
    return DONE


def _run(options: argparse.Namespace) -> int:
    from aggregator.repository import Repository
    from aggregator.server import serve

    if (options.tls_cert is None) != (options.tls_key is None):
        raise ValueError("--tls-cert and --tls-key belong together")
    manifest = Repository(options.dir).status().manifest
    release = "no release yet" if manifest is None else f"release {manifest.version}"
    try:
        serve(
            options.dir,
            host=options.host,
            port=options.port,
            tls_certificate=options.tls_cert,
            tls_key=options.tls_key,
            keep_fresh=not options.no_refresh,
            on_ready=lambda url: _say(f"serving {release} on {url} (stop with Ctrl-C)"),
        )
    except KeyboardInterrupt:
        _say("stopped")
    return DONE


def _status(options: argparse.Namespace) -> int:
    from aggregator.repository import Repository

    repository = Repository(options.dir)
    status = repository.status()
    fresh = time.time() < status.fresh_until_s
    releases = [manifest.version for manifest in repository.history()]
    if options.json:
        state = {
            "release": None if status.manifest is None else status.manifest.version,
            "guarantee": {} if status.manifest is None else dict(status.manifest.guarantee),
            "fresh": fresh,
            "fresh_until_s": int(status.fresh_until_s),
            "releases": releases,
        }
        _say(json.dumps(state, ensure_ascii=False))
    else:
        _say(
            f"release      {_describe(status.manifest)}",
            f"fresh until  {_date(status.fresh_until_s)}"
            + ("" if fresh else "  EXPIRED: devices refuse it; start homebody server run"),
            f"releases     {', '.join(map(str, releases)) or 'none'}",
        )
    return DONE if fresh else UNHEALTHY


def _rollback(options: argparse.Namespace) -> int:
    from aggregator.repository import Repository

    manifest = Repository(options.dir, keys_directory=options.keys).rollback(options.to)
    _say(f"release {manifest.version} has the files of release {options.to} and is served now")
    return DONE


def _describe(manifest: ReleaseManifest | None) -> str:
    if manifest is None:
        return "none yet"
    model = "with a model" if manifest.has_model else "catalogue and policy only"
    return f"{manifest.version} ({model}, made {_date(manifest.created_at_s)})"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535; got {text[:20]!r}")
    return int(text)


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _complain(problem: str) -> int:
    sys.stderr.write(f"homebody: error: {problem}\n")
    return USAGE
