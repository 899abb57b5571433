"""What the commands of ``homebody device`` do: a store in, an answer out.

Each command opens the store, answers and closes it; what it answers is JSON for a machine and lines
for a person. A store is opened with rules that let go of nothing: how long what is kept is the
app's to say.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from client_sdk.home import Homebody
    from client_sdk.ports import KeyStore
    from client_sdk.signals.features import FeatureDefinition
    from client_sdk.signals.signals import SignalRules

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
_LATEST: Final = 5


class UsageError(ValueError):
    """The words on the command line cannot be used; the message is one line."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command found: as JSON for a machine, as lines for a person."""

    value: Mapping[str, Any]
    lines: Sequence[str]
    code: int = DONE


def show(options: argparse.Namespace) -> Answer:
    """Say in plain words what the store knows."""
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


def features(options: argparse.Namespace) -> Answer:
    """List every feature."""
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


def consent(options: argparse.Namespace) -> Answer:
    """Show consent, give it, take it back."""
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


def decisions(options: argparse.Namespace) -> Answer:
    """List what was decided."""
    from client_sdk.experience.guardrails.policy import GuardrailPolicy

    with _opened(options) as home:
        decisions = home.decider(GuardrailPolicy()).decisions()
    lines = [
        f"{decision.decision_id[:12]}  {_minute(decision.time_s)}  {decision.moment.name}: "
        f"{decision.action.action_id if decision.action else 'nothing'}. {decision.reason}"
        for decision in decisions
    ]
    return Answer(
        value={"decisions": [decision.to_json() for decision in decisions]},
        lines=lines or ["Nothing was decided yet."],
    )


def why(options: argparse.Namespace) -> Answer:
    """Say why one decision came out as it did: in the person's words; as JSON, every stage."""
    from client_sdk.experience.account import Teller
    from client_sdk.experience.guardrails.policy import GuardrailPolicy

    with _opened(options) as home:
        decider = home.decider(GuardrailPolicy())
        named = options.decision or ""
        found = [
            one.decision_id for one in decider.decisions() if one.decision_id.startswith(named)
        ]
        if not found:
            raise UsageError("DECISION: expected the id of a decision in the log; got another")
        if named and len(found) > 1:
            raise UsageError(
                f"DECISION: expected one decision; got {len(found)}: give more of its id"
            )
        why = decider.why(found[-1])
    return Answer(
        value={
            "decision": why.decision.to_json(),
            "same": why.same,
            "refused": {action: list(rules) for action, rules in why.refused.items()},
            "policy": why.policy,
        },
        lines=[
            *Teller().tell(why.decision, refused=why.refused, same=why.same),
            "The guardrails then:",
            *(f"  {one}" for one in why.policy),
        ],
        code=DONE if why.same else FAILED,
    )


def export(options: argparse.Namespace) -> Answer:
    """Write everything to a file."""
    with _opened(options) as home:
        count = home.export(options.file)
    return Answer(
        value={"lines": count, "file": str(options.file)},
        lines=[f"{count:,} lines written to {options.file}, readable by you only"],
    )


def import_(options: argparse.Namespace) -> Answer:
    """Take an export back."""
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


def erase(options: argparse.Namespace) -> Answer:
    """Destroy the key, then the files."""
    if not options.yes:
        raise UsageError("erasing cannot be undone: export first if wanted, then add --yes")
    with _opened(options) as home:
        home.erase()
    return Answer(
        value={"erased": True},
        lines=["The key is destroyed and the files are deleted: no copy of them opens any more."],
    )


def doctor(options: argparse.Namespace) -> Answer:
    """Check the store."""
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


def _minute(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
