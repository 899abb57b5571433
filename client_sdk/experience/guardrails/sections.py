"""The sections of a policy file, each read to its rules; `policy` lists the keys.

Rules a reader can check line by line:

1. A section that is there and says nothing is an error, not a rule that never refuses.
2. Channels that a section does not name are those that need the person's yes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from client_sdk.experience.actions import is_code
from client_sdk.experience.guardrails.matter import (
    AlreadyBought,
    CoolDown,
    LessOf,
    Never,
    OfferActive,
    ProtectedAttributes,
    SensitiveTopics,
    SoldOut,
    Waiting,
)
from client_sdk.experience.guardrails.reach import (
    Cap,
    Fatigue,
    KnownChannel,
    OptIn,
    QuietHours,
    Window,
)
from client_sdk.experience.guardrails.rule import Rule
from client_sdk.experience.toml_table import CODE_WORDS, TomlTable

MAX_CAP: Final = 1_000
MAX_HOURS: Final = 24 * 365
_WINDOWS: Final[tuple[Window, ...]] = ("session", "day", "week")


def read_rules(top: TomlTable) -> tuple[Rule, ...]:
    """Read every section of a file to rules.

    Raises:
        FileMistakeError: a section is not as promised.
    """
    channels, with_yes, caps = _channels(top)
    rules: list[Rule] = [KnownChannel(channels=channels), SoldOut(), LessOf(), Waiting()]
    if with_yes:
        rules.insert(1, OptIn(channels=with_yes))
    rules[2:2] = caps
    rules.append(_protected(top.table("protected")))
    for name, read in _SECTIONS.items():
        if name in top:
            section = top.table(name)
            rules += read(section, channels, with_yes)
            section.done()
    return tuple(rules)


def _channels(top: TomlTable) -> tuple[frozenset[str], frozenset[str], list[Rule]]:
    section = top.table("channels")
    if not section.keys:
        raise top.error("channels", "expected at least one channel; got none: add [channels.NAME]")
    with_yes: list[str] = []
    caps: list[Rule] = []
    for name in section.keys:
        if not is_code(name):
            raise section.error(name, f"{CODE_WORDS}; got another name: correct it")
        channel = section.table(name)
        if channel.flag("opt_in", default=True):
            with_yes.append(name)
        limits = {per: channel.whole(f"per_{per}", least=0, most=MAX_CAP) for per in _WINDOWS}
        if limits["day"] is None and limits["week"] is None:
            raise section.error(
                name, "expected per_day or per_week; got none: a channel without a cap is refused"
            )
        caps += [
            Cap(channel=name, per=per, limit=limit)
            for per, limit in limits.items()
            if limit is not None
        ]
        channel.done()
    section.done()
    return frozenset(section.keys), frozenset(with_yes), caps


def _protected(section: TomlTable) -> Rule:
    allow = section.names("allow", folded=True) or frozenset()
    if allow and not section.text("reason").strip():
        raise section.error("reason", "expected why these are allowed; got none: add a reason")
    section.text("reason")
    section.done()
    return ProtectedAttributes(allow=allow)


def _chosen(
    section: TomlTable, channels: frozenset[str], default: frozenset[str]
) -> frozenset[str]:
    chosen = section.names("channels")
    if chosen is None:
        return default
    if not chosen or not chosen <= channels:
        raise section.error("channels", "expected channels of this file; got none or others")
    return chosen


def _quiet_hours(
    section: TomlTable, channels: frozenset[str], with_yes: frozenset[str]
) -> list[Rule]:
    start, end = section.minute("from"), section.minute("to")
    if start == end:
        raise section.error("to", "expected another time than 'from'; got the same: change one")
    chosen = _chosen(section, channels, with_yes)
    return [QuietHours(start_minute=start, end_minute=end, channels=chosen)]


def _fatigue(section: TomlTable, channels: frozenset[str], with_yes: frozenset[str]) -> list[Rule]:
    messages = section.whole("messages_7_days", least=0, most=MAX_CAP)
    share = section.number("dismissed_share", least=0, most=1)
    if messages is None and share is None:
        raise section.error(
            "messages_7_days", "expected this or dismissed_share; got none: add one of them"
        )
    chosen = _chosen(section, channels, with_yes)
    return [Fatigue(channels=chosen, messages_7_days=messages, dismissed_share=share)]


def _cool_down(section: TomlTable, *_: frozenset[str]) -> list[Rule]:
    except_kinds = section.codes("except_kinds") or frozenset()
    afters: tuple[Literal["complaint", "return"], ...] = ("complaint", "return")
    rules: list[Rule] = []
    for after in afters:
        hours = section.number(f"after_{after}_hours", least=0, most=MAX_HOURS)
        if hours is not None:
            rules.append(CoolDown(after=after, hours=hours, except_kinds=except_kinds))
    if not rules:
        raise section.error(
            "after_complaint_hours",
            "expected this or after_return_hours; got none: add one of them",
        )
    return rules


def _bought(section: TomlTable, *_: frozenset[str]) -> list[Rule]:
    return [
        AlreadyBought(
            within_days=section.number("within_days", least=0, most=36_500),
            except_kinds=section.codes("except_kinds") or frozenset(),
        )
    ]


def _offers(section: TomlTable, *_: frozenset[str]) -> list[Rule]:
    kinds = section.codes("kinds")
    if kinds is not None and not kinds:
        raise section.error("kinds", "expected kinds of actions; got none: add one or remove it")
    days = section.number("active_days", least=0, most=365)
    if days is None:
        raise section.error("active_days", "expected how long an offer lasts; got none: add it")
    return [
        OfferActive(
            kinds=kinds or frozenset({"offer"}),
            active_days=days,
            one_at_a_time=section.flag("one_at_a_time", default=True),
        )
    ]


def _sensitive(section: TomlTable, *_: frozenset[str]) -> list[Rule]:
    words = section.names("topics", folded=True)
    if not words:
        raise section.error("topics", "expected at least one topic; got none: add one")
    return [SensitiveTopics(words=words)]


def _never(section: TomlTable, *_: frozenset[str]) -> list[Rule]:
    actions = section.names("actions") or frozenset()
    kinds = section.codes("kinds") or frozenset()
    words = (section.names("topics", folded=True) or frozenset()) | (
        section.names("tags", folded=True) or frozenset()
    )
    if not (actions or kinds or words):
        raise section.error(
            "actions", "expected actions, kinds, topics or tags; got none: add some"
        )
    return [Never(actions=actions, kinds=kinds, words=words)]


_SECTIONS: Final[dict[str, Callable[..., list[Rule]]]] = {
    "quiet_hours": _quiet_hours,
    "fatigue": _fatigue,
    "cool_down": _cool_down,
    "bought": _bought,
    "offers": _offers,
    "sensitive": _sensitive,
    "never": _never,
}
