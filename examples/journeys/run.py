"""Play a journey: a scripted person, several channels, and the reason for every message.

    python examples/journeys/run.py retail
    python examples/journeys/run.py finance --diagram finance.svg
    python examples/journeys/run.py retail --simulate
    python examples/journeys/run.py --all

A journey is three files in this folder: ``retail.toml`` (states, triggers, actions),
``retail.content.toml`` (what can be said), ``retail.person.toml`` (a person, what they do and
allow, and what a copywriter might write). ``guardrails.toml`` is what the decider asks about every
message, whatever journey proposes it. Copy them and change them: a mistake is one line with file,
line and remedy. The store is a real one, encrypted, in a folder that goes after the play.

More than 400 lines: one file, so that it can be copied as a whole.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from client_sdk import Homebody, HomebodyError  # noqa: E402
from client_sdk.experience.actions import Moment  # noqa: E402
from client_sdk.experience.content import (  # noqa: E402
    Brief,
    CopyDesk,
    CopyGuard,
    Objection,
    Tone,
)
from client_sdk.experience.content.shape import seconds  # noqa: E402
from client_sdk.experience.decisions import Decision  # noqa: E402
from client_sdk.experience.guardrails.policy import GuardrailPolicy  # noqa: E402
from client_sdk.experience.journeys import (  # noqa: E402
    JourneyState,
    Message,
    Programme,
    Withheld,
    explain,
    mermaid,
    simulate,
    svg,
)
from client_sdk.keys import MemoryKeyStore  # noqa: E402
from client_sdk.signals.events import Event, EventKind  # noqa: E402
from client_sdk.signals.features import Context, FeatureSet, PropertyFeature  # noqa: E402
from client_sdk.signals.kinds import CustomKind  # noqa: E402
from client_sdk.signals.signals import SignalRules  # noqa: E402
from client_sdk.signals.taxonomy import Taxonomy  # noqa: E402
from client_sdk.testing import FixedClock  # noqa: E402
from client_sdk.wire import Catalogue, Item, Purpose  # noqa: E402

NAMES: Final = ("retail", "saas", "finance", "travel")
TONE: Final = "plain"
CURRENCY: Final = "GBP"
SHOWN: Final = "message_shown"
# Of the decider's draws: an example prints the same each time. An app leaves it out.
SEED: Final = 1


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """One message as it left: what, where, why, what was decided, and what was allowed then."""

    now_s: float
    channel: str
    action_id: str
    tags: tuple[str, ...]
    text: str
    reason: str
    source: str
    objections: tuple[Objection, ...]
    decision: Decision
    replayed: bool
    opt_ins: frozenset[str]
    consents: frozenset[str]


@dataclass(kw_only=True)
class Play:
    """What happened, in order: notes, events, messages, and what was not said.

    Attributes:
        lines: As printed.
        spoken: What reached somebody.
        refused: What the journey proposed and the decider refused.
        waiting: What waits, or waited, for a person's approval.
        withheld: What the journey itself did not propose.
        states: Where the person was after each step.
    """

    lines: list[str] = field(default_factory=list)
    spoken: list[Spoken] = field(default_factory=list)
    refused: list[Message] = field(default_factory=list)
    waiting: list[Message] = field(default_factory=list)
    withheld: list[Withheld] = field(default_factory=list)
    states: list[JourneyState] = field(default_factory=list)


class Stage:
    """One journey with everything that it needs; read from the four files' folder."""

    def __init__(self, name: str, folder: Path = HERE) -> None:
        self.person: Mapping[str, Any] = tomllib.loads(
            (folder / f"{name}.person.toml").read_text(encoding="utf-8")
        )
        self.features = FeatureSet(
            custom=tuple(
                PropertyFeature(
                    **{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
                )
                for row in self.person.get("features", ())
            )
        )
        self.programme = Programme.from_toml(
            folder / f"{name}.toml", folder / f"{name}.content.toml", features=self.features.names
        )
        self.journey, self.content = self.programme.journey, self.programme.content
        self.guardrails = GuardrailPolicy.read(folder / "guardrails.toml")
        self.taxonomy = Taxonomy(
            CustomKind.from_table(kind, table)
            for kind, table in self.person.get("kinds", {}).items()
        )
        self.catalogue = Catalogue(
            items=tuple(
                Item(**{"item_id" if key == "id" else key: value for key, value in row.items()})
                for row in self.person.get("items", ())
            )
        )
        scripted: Mapping[str, str] = self.person.get("copywriter", {})

        def write(brief: Brief) -> str:
            return scripted[brief.message]

        self.copy_desk = CopyDesk(
            guard=CopyGuard(
                tones=[
                    Tone(name=row["name"], avoid=tuple(row.get("avoid", ())))
                    for row in self.person["tones"]
                ]
            ),
            copywriter=write,
            messages=frozenset(scripted),
            tone=TONE,
            currency=CURRENCY,
        )

    def play(self, script: Sequence[Mapping[str, Any]] | None = None) -> Play:
        """Play the person's script, or another one, on a store of its own."""
        begins: datetime = self.person["begins"]
        clock = FixedClock(begins.timestamp())
        with (
            tempfile.TemporaryDirectory() as folder,
            Homebody.open(
                Path(folder) / "store",
                catalogue=self.catalogue,
                key_store=MemoryKeyStore(),
                clock=clock,
                rules=SignalRules(taxonomy=self.taxonomy, features=self.features),
            ) as home,
        ):
            home.decider(self.guardrails)
            home.journeys.use(self.programme)
            actor = _Actor(self, home, clock)
            for row in self.person["script"] if script is None else script:
                actor.act(row)
            return actor.told


class _Actor:
    """Takes one person through one script."""

    def __init__(self, stage: Stage, home: Homebody, clock: FixedClock) -> None:
        self.told = Play()
        self._stage, self._home, self._clock = stage, home, clock
        begins: datetime = stage.person["begins"]
        offset = begins.utcoffset()
        zone_s = None if offset is None else int(offset.total_seconds())
        self._moment = Moment(name="journey", context=Context(utc_offset_s=zone_s))
        self._facts: dict[str, Any] = {}

    def act(self, row: Mapping[str, Any]) -> None:
        """Let time pass, then do one row of the script."""
        if "after" in row:
            self._wait(seconds(row["after"]))
        if "note" in row:
            self._say("*", row["note"])
        self._allow(row)
        self._facts |= row.get("facts", {})
        if "approve" in row:
            self._approve(row["approve"])
        if "event" in row:
            self._do(row)

    def _allow(self, row: Mapping[str, Any]) -> None:
        home = self._home
        if "consent" in row:
            home.consent.grant(row["consent"])
        if "withdraw" in row:
            home.consent.withdraw(row["withdraw"])
        for word, set_one in (
            ("allow", home.preferences.allow_channel),
            ("refuse", home.preferences.refuse_channel),
            ("allow_permission", home.preferences.allow_permission),
            ("refuse_permission", home.preferences.refuse_permission),
        ):
            for name in _listed(row.get(word, ())):
                set_one(name)
        if "pause" in row:
            home.preferences.pause(for_s=seconds(row["pause"]))

    def _do(self, row: Mapping[str, Any]) -> None:
        event = Event(
            kind=row["event"],
            time_s=self._clock.now_s(),
            item_id=row.get("item"),
            price=row.get("price"),
            properties=row.get("properties", {}),
        )
        tracked = self._home.track_many([event])
        did = self._stage.taxonomy.custom.get(str(event.kind))
        words = str(event.kind).replace("_", " ") if did is None else did.meaning.rstrip(".")
        about = f" {event.item_id}" if event.item_id else ""
        extra = "".join(f", {name} {value}" for name, value in event.properties.items())
        unseen = "" if tracked.stored else "  (not stored: no consent)"
        self._say(".", f"{words}{about}{extra}{unseen}")
        item = self._item(event.item_id)
        if item is not None:
            self._facts |= {"item_name": item.name, "item_price": item.price}
        self._step(event)

    def _wait(self, seconds_s: float) -> None:
        """Let time pass, and stop where a timer of the journey is due."""
        home, name = self._home, self._stage.journey.name
        end_s = self._clock.now_s() + seconds_s
        while True:
            due_s = home.journeys.next_due_s(name)
            if due_s is None or not self._clock.now_s() < due_s < end_s:
                break
            self._clock.set(due_s)
            self._step(None)
        self._clock.set(end_s)
        self._step(None)

    def _step(self, event: Event | None) -> None:
        step = self._home.journeys.step(
            self._stage.journey.name,
            event,
            moment=self._moment,
            facts=self._facts,
            copy_desk=self._stage.copy_desk,
            seed=SEED,
        )
        if step.moved:
            self._say(" ", step.reasons[0])
        self.told.states.append(step.state)
        for withheld in step.withheld:
            self.told.withheld.append(withheld)
            self._say("x", f"{withheld.channel}: not proposed, since {withheld.reason}")
        for message in step.messages:
            self._take(message)

    def _approve(self, channel: str) -> None:
        """Let a colleague say yes to what waits for a channel."""
        for one in self._home.decider().waiting():
            if one.action.channel != channel:
                continue
            try:
                message = self._home.journeys.approve(
                    one.decision_id,
                    by="a colleague",
                    facts=self._facts,
                    copy_desk=self._stage.copy_desk,
                )
            except (ValueError, HomebodyError) as error:
                self._say("x", f"{channel}: approved too late: {error}")
            else:
                self._take(message)

    def _take(self, message: Message) -> None:
        channel, decision = message.proposal.action.channel, message.decision
        number = decision.decision_id[:8]
        if message.shown:
            self._speak(message)
        elif message.waits:
            self.told.waiting.append(message)
            self._say("?", f"{channel}: waits until a person approves it (decision {number})")
            self._say(" ", f"  why: {message.proposal.reason}")
        else:
            self.told.refused.append(message)
            self._say("x", f"{channel}: refused (decision {number}): {decision.reason}")

    def _speak(self, message: Message) -> None:
        action, decision, copy = message.proposal.action, message.decision, message.copy
        if copy is None or message.written is None:
            raise ValueError(f"{action.action_id}: expected content; got none: add it")
        preferences = self._home.preferences.current()
        spoken = Spoken(
            now_s=self._clock.now_s(),
            channel=action.channel,
            action_id=action.action_id,
            tags=action.tags,
            text=copy.text,
            reason=message.proposal.reason,
            source=copy.source,
            objections=copy.objections,
            decision=decision,
            replayed=self._home.decider().why(decision.decision_id).same,
            opt_ins=preferences.channels | preferences.permissions,
            consents=consents_now(self._home),
        )
        self.told.spoken.append(spoken)
        number = decision.decision_id[:8]
        self._say(">", f'{action.channel}: "{spoken.text}"')
        self._say(" ", f"  why: {spoken.reason}")
        self._say(" ", f"  decided: {decision.status} (decision {number}): {decision.reason}")
        if copy.source == "copywriter":
            self._say(" ", "  text: the copywriter's; the guard has no objection")
        elif copy.objections:
            said = "; ".join(f"{one.rule}: {one.detail}" for one in copy.objections)
            self._say(" ", f"  text: the template, since the copywriter's was refused ({said})")
        else:
            chosen = message.written
            self._say(" ", f"  text: variant {chosen.variant_id!r}, {chosen.reason}")
        self._home.track(SHOWN, channel=action.channel)

    def _item(self, item_id: str | None) -> Item | None:
        catalogue = self._stage.catalogue
        row = catalogue.position.get(item_id or "")
        return None if row is None else catalogue.items[row]

    def _say(self, mark: str, text: str) -> None:
        time = datetime.fromtimestamp(self._clock.now_s(), tz=UTC)
        self.told.lines.append(f"{time:%a %d %b %H:%M}  {mark} {text}")


def consents_now(home: Homebody) -> frozenset[str]:
    """The purposes that there is a yes to."""
    return frozenset(str(purpose) for purpose in Purpose if home.consent.allows(purpose))


def bundled_histories() -> tuple[Catalogue, list[list[Event]]]:
    """The bundled purchases of 798 real customers, as events."""
    from simulations.data.bundled import load_bundled
    from simulations.data.interactions import EVENT_KINDS

    loaded = load_bundled()
    rows = loaded.interactions
    histories: list[list[Event]] = [[] for _ in range(rows.n_people)]
    for row in range(len(rows)):
        histories[rows.users[row]].append(
            Event(
                kind=EventKind(EVENT_KINDS[rows.kinds[row]]),
                time_s=float(rows.times_s[row]),
                item_id=loaded.catalogue.items[rows.items[row]].item_id,
                price=float(rows.prices[row]),
            )
        )
    return loaded.catalogue, histories


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = _Parser(
        prog="run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("journey", nargs="?", help=f"one of {', '.join(NAMES)}")
    parser.add_argument("--all", action="store_true", help="play all four, one after the other")
    parser.add_argument("--explain", action="store_true", help="say the journey in plain words")
    parser.add_argument("--diagram", metavar="FILE", help="draw it: .svg, or .mmd for Mermaid")
    parser.add_argument(
        "--simulate",
        action="store_true",
        help="count what it would have sent to 798 real customers of a shop (retail)",
    )
    asked = parser.parse_args(arguments)
    if asked.all == bool(asked.journey):
        parser.error(f"expected one of {', '.join(NAMES)}, or --all")
    if asked.journey and asked.journey not in NAMES:
        parser.error(f"expected one of {', '.join(NAMES)}; got another word")
    if asked.diagram and (asked.all or Path(asked.diagram).suffix not in (".svg", ".mmd")):
        parser.error("--diagram: expected one journey, and a file that ends in .svg or .mmd")
    try:
        for name in NAMES if asked.all else (asked.journey,):
            sys.stdout.write("\n".join(_told(name, asked)) + "\n")
    except (ValueError, OSError, HomebodyError) as error:
        parser.error(" ".join(str(error).split()))
    return 0


def _told(name: str, asked: argparse.Namespace) -> Iterator[str]:
    stage = Stage(name)
    if asked.diagram:
        drawn = svg if asked.diagram.endswith(".svg") else mermaid
        Path(asked.diagram).write_text(drawn(stage.journey), encoding="utf-8")
        yield f"drawn: {asked.diagram}"
    elif asked.explain:
        yield from explain(stage.journey)
    elif asked.simulate:
        yield from _simulated(stage)
    else:
        yield stage.journey.title
        yield f"{stage.person['about']}\n"
        yield from stage.play().lines
        yield ""


def _simulated(stage: Stage) -> Iterator[str]:
    catalogue, histories = bundled_histories()

    def progress(done: int) -> None:
        if done % 100 == 0 or done == len(histories):
            sys.stderr.write(f"\r{done} of {len(histories)} people")
            sys.stderr.write("\n" if done == len(histories) else "")
            sys.stderr.flush()

    report = simulate(
        stage.journey,
        histories,
        catalogue=catalogue,
        features=stage.features,
        opt_ins=[name for name, channel in stage.journey.channels.items() if channel.opt_in],
        progress=progress,
    )
    yield from report.in_words()


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and ends with 2."""

    def error(self, message: str) -> NoReturn:
        """Say it."""
        self.exit(2, f"run.py: {message} (see --help)\n")


def _listed(value: str | Sequence[str]) -> Sequence[str]:
    return [value] if isinstance(value, str) else value


if __name__ == "__main__":
    raise SystemExit(main())
