"""``homebody device``: look into a store on disk, take it along, change consent, erase it.

The person's own door to their data, on their own machine; nothing here talks to a network. A
mistake is one line on stderr. Exit codes: 0 done, 1 the store could not be used or has problems,
2 the words on the command line cannot be used.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TextIO

if TYPE_CHECKING:
    from client_sdk.home import Homebody
    from client_sdk.ports import KeyStore
    from client_sdk.signals.features import FeatureDefinition
    from client_sdk.signals.signals import SignalRules

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
_LATEST: Final = 5

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


class UsageError(ValueError):
    """The words on the command line cannot be used; the message is one line."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command found: as JSON for a machine, as lines for a person."""

    value: Mapping[str, Any]
    lines: Sequence[str]
    code: int = DONE


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
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    def command(name: str, run: Callable[[argparse.Namespace], Answer], what: str) -> _Parser:
        added = commands.add_parser(name, help=what, description=what, allow_abbrev=False)
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

    command("show", _show, "say in plain words what the store knows, and what left the device")
    command("features", _features, "list every feature: value, window, meaning")
    consent = command("consent", _consent, "show consent, give it, or take it back")
    consent.add_argument(
        "--grant", action="append", default=[], metavar="PURPOSE", help="after reading the text"
    )
    consent.add_argument(
        "--withdraw", action="append", default=[], metavar="PURPOSE", help="counts at once"
    )
    consent.add_argument(
        "--records", action="store_true", help="receipts with the fields of ISO/IEC TS 27560 (JSON)"
    )
    export = command("export", _export, "write everything to a file (JSON Lines, owner only)")
    export.add_argument("file", type=Path, help="an older file is replaced once this is complete")
    imported = command("import", _import, "take back an export: all of it, or nothing")
    imported.add_argument("file", type=Path, help="a file that export wrote")
    imported.add_argument(
        "--kinds", type=Path, metavar="FILE", help="the app's own kinds of events (TOML)"
    )
    erase = command("erase", _erase, "destroy the key, then the files: nothing can be restored")
    erase.add_argument("--yes", action="store_true", help="really")
    command("doctor", _doctor, "check the store, and say what to do")
    return parser


def _show(options: argparse.Namespace) -> Answer:
    with _opened(options) as home:
        by_kind = home.signals.count_by_kind()
        left = home.transparency()
        known = _known(home)
        value = {
            "device": home.device,
            "release": home.version,
            "events": by_kind,
            "consent": _status(home),
            "preferences": home.preferences.current().to_json(),
            "known": known,
            "quality": home.signals.quality().to_json(),
            "left": [entry.to_json() for entry in left],
        }
        lines = [
            f"Device {home.device[:16]}…, "
            + (f"release {home.version}" if home.version else "no release yet"),
            "",
            f"Events: {sum(by_kind.values()):,}",
            *(f"  {kind}: {count:,}" for kind, count in sorted(by_kind.items())),
            "Consent:",
            *_consent_lines(home),
            "Preferences:",
            *(f"  {line}" for line in home.preferences.in_words()),
            "What is known:",
            *(f"  {line}" for line in known),
            "How good the data is:",
            *(f"  {line}" for line in home.signals.quality().sentences()),
            f"What left this device: {len(left)} message(s)",
            *(f"  {entry.sentence()}" for entry in left[-_LATEST:]),
        ]
    return Answer(value=value, lines=lines)


def _features(options: argparse.Namespace) -> Answer:
    with _opened(options) as home:
        vector = home.features()
    rows = [
        {"name": definition.name, "value": vector.get(definition.name), **_declared(definition)}
        for definition in vector.definitions
    ]
    maps = {name: vector.map(name) for name in vector.maps}
    width = max(len(row["name"]) for row in rows)
    lines = [
        f"{row['name']:<{width}}  {_shown(row['value']):>10}  {row['window']:<8}  {row['meaning']}"
        for row in rows
    ]
    for name, values in maps.items():
        best = sorted(values.items(), key=lambda pair: -pair[1])[:_LATEST]
        if best:
            lines.append(f"{name}: " + ", ".join(f"{key} {value:.3g}" for key, value in best))
    return Answer(value={"features": rows, "maps": maps}, lines=lines)


def _consent(options: argparse.Namespace) -> Answer:
    with _opened(options) as home:
        try:
            if options.grant:
                home.consent.grant(*options.grant)
            if options.withdraw:
                home.consent.withdraw(*options.withdraw)
        except ValueError as error:
            raise UsageError(str(error)) from error
        if options.records:
            records = home.consent.records()
            return Answer(
                value={"records": records},
                lines=[json.dumps(record, ensure_ascii=False) for record in records],
            )
        status = _status(home)
        texts = {purpose.value: text for purpose, text in home.consent.policy.texts.items()}
        lines = [f"Policy {home.consent.policy.version}"]
        for line, text in zip(_consent_lines(home), texts.values(), strict=True):
            lines += [line, f"    {text}"]
    return Answer(value={"consent": status, "texts": texts}, lines=lines)


def _export(options: argparse.Namespace) -> Answer:
    with _opened(options) as home:
        count = home.export(options.file)
    return Answer(
        value={"lines": count, "file": str(options.file)},
        lines=[f"{count:,} lines written to {options.file}, readable by you only"],
    )


def _import(options: argparse.Namespace) -> Answer:
    with _opened(options) as home:
        done = home.import_from(options.file)
    lines = [f"{done.events:,} events taken, {done.duplicates:,} were here already"]
    if done.expired:
        lines.append(f"{done.expired:,} left: their time to be kept is over")
    lines += [
        f"{count:,} line(s) of type {kind!r} left: another device's"
        for kind, count in sorted(done.left_behind.items())
    ]
    return Answer(value=vars(done), lines=lines)


def _erase(options: argparse.Namespace) -> Answer:
    if not options.yes:
        raise UsageError("erasing cannot be undone: export first if wanted, then add --yes")
    with _opened(options) as home:
        home.erase()
    return Answer(
        value={"erased": True},
        lines=["The key is destroyed and the files are deleted: no copy of them opens any more."],
    )


def _doctor(options: argparse.Namespace) -> Answer:
    from client_sdk.doctor import examine

    findings = examine(_folder(options), _key_store(options), _rules(None))
    problems = [finding for finding in findings if not finding.sound]
    lines = [f"{'ok     ' if finding.sound else 'PROBLEM'}  {finding.text}" for finding in findings]
    lines.append(f"{len(problems)} problem(s)" if problems else "The store is sound.")
    return Answer(
        value={"sound": not problems, "findings": [vars(finding) for finding in findings]},
        lines=lines,
        code=FAILED if problems else DONE,
    )


def _opened(options: argparse.Namespace) -> Homebody:
    from client_sdk.home import Homebody
    from client_sdk.opening import KeptReleases

    folder = _folder(options)
    return Homebody.open(
        folder,
        key_store=_key_store(options),
        releases=KeptReleases(folder),
        rules=_rules(getattr(options, "kinds", None)),
    )


def _rules(kinds: Path | None) -> SignalRules:
    """Give rules that let go of nothing: how long what is kept is the app's to say."""
    from client_sdk.signals.retention import KEEP_ALL
    from client_sdk.signals.signals import SignalRules
    from client_sdk.signals.taxonomy import STANDARD, Taxonomy

    try:
        taxonomy = STANDARD if kinds is None else Taxonomy.from_toml(kinds)
    except ValueError as error:
        raise UsageError(f"--kinds: {error}") from error
    return SignalRules(taxonomy=taxonomy, retention=KEEP_ALL)


def _folder(options: argparse.Namespace) -> Path:
    """Give the folder of one person's store: the one named, or a profile of a household."""
    from client_sdk.household import INDEX_FOLDER, PROFILES_FOLDER, Household
    from client_sdk.signals.vault import DATABASE_FILE

    store: Path = options.store
    if (store / INDEX_FOLDER / DATABASE_FILE).is_file():
        with Household.open(store, key_store=_key_store(options)) as household:
            known = {profile.profile_id: profile for profile in household.profiles()}
            wanted = options.profile or household.profile.profile_id
        if wanted not in known:
            raise UsageError(f"--profile: expected one of {sorted(known)}; got another")
        return store / PROFILES_FOLDER / wanted
    if not (store / DATABASE_FILE).is_file():
        raise UsageError(
            f"{store}: expected the folder of a store, with {DATABASE_FILE} in it; got none"
        )
    if options.profile is not None:
        raise UsageError("--profile: expected a household; got the store of one person")
    return store


def _key_store(options: argparse.Namespace) -> KeyStore:
    from client_sdk.keys import FileKeyStore, KeyringKeyStore

    if options.keyring:
        return KeyringKeyStore()
    store: Path = options.store
    return FileKeyStore(options.keys or store.with_name(f"{store.resolve().name}.keys"))


def _shown(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4g}"


def _declared(definition: FeatureDefinition) -> dict[str, Any]:
    return {
        "window": definition.window,
        "unit": definition.unit,
        "mode": definition.mode,
        "sensitivity": definition.sensitivity,
        "meaning": definition.meaning,
    }


def _known(home: Homebody) -> list[str]:
    from client_sdk.errors import ConsentRequiredError

    try:
        return home.features().in_words() or ["Nothing yet."]
    except ConsentRequiredError:
        return ["Nothing is read: there is no consent to personalise now."]


def _consent_lines(home: Homebody) -> list[str]:
    lines = []
    for purpose, status in home.consent.status().items():
        line = f"  {purpose.value}: {status.state.value}"
        if status.answered_at_s is not None:
            line += f", answered {_day(status.answered_at_s)}"
        if status.expires_at_s is not None:
            line += f", ends {_day(status.expires_at_s)}"
        lines.append(line)
    return lines


def _status(home: Homebody) -> dict[str, Any]:
    return {purpose.value: vars(status) for purpose, status in home.consent.status().items()}


def _day(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, tz=UTC).strftime("%Y-%m-%d")


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror.lower()}"
    return str(error)


def _complain(stream: TextIO, problem: object, code: int) -> int:
    stream.write(f"homebody: error: {problem}\n")
    return code
