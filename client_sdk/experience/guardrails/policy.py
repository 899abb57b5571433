"""The policy: every guardrail of an app, in one readable file.

Rules a reader can check line by line:

1. An empty file, a missing one, and no policy at all refuse everything, the fallback too.
2. A file of another version, an unknown key or a wrong type is one error; nothing of it is used.
3. Every channel is named, with a cap for a day or a week. It needs the person's yes unless the file
   says ``opt_in = false``.
4. Stock, protected attributes, what the person wants less of, and what waits for approval are
   guarded in every policy; no key turns that off.
5. The fallback has to pass every guardrail; only the confidence is not asked of it.

The keys, all of which may be left out but ``version`` and ``channels``::

    version = 1
    name = "shop"                    # for the log
    fallback = ["top-sellers"]       # ids of actions, the first that passes
    [channels.NAME]                  # at least one
    opt_in = true                    # by default
    per_session = 3                  # at least one of per_day and per_week
    per_day = 1
    per_week = 3
    [confidence]
    minimum = 0.3                    # below it: the fallback; 0 to 1
    [review]
    high_impact = true               # waits for a person; true by default
    below_confidence = 0.4           # waits as well
    expires_hours = 72
    [exploration]
    epsilon = 0.05
    floor = 0.001
    cap = 0.1                        # at most 0.5
    temperature = 1.0
    [quiet_hours]
    from = "21:00"
    to = "08:00"
    channels = ["push"]              # by default those that need a yes
    [fatigue]
    messages_7_days = 5
    dismissed_share = 0.6
    channels = ["push"]              # by default those that need a yes
    [cool_down]
    after_complaint_hours = 72
    after_return_hours = 24
    except_kinds = ["help"]
    [bought]
    within_days = 90                 # for ever by default
    except_kinds = ["replenishment"]
    [offers]
    kinds = ["offer"]                # by default
    active_days = 14
    one_at_a_time = true             # by default
    [sensitive]
    topics = ["alcohol"]
    [protected]
    allow = ["allergy"]              # words; with a reason
    reason = "Asked for by the person; decision record 12."
    [never]
    actions = ["old-banner"]
    kinds = ["sales-call"]
    topics = ["gambling"]
    tags = ["adult"]
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from client_sdk.experience.action_table import ActionTable
from client_sdk.experience.exploration import Exploration
from client_sdk.experience.guardrails.matter import OfferActive
from client_sdk.experience.guardrails.rule import Rule
from client_sdk.experience.guardrails.sections import read_rules
from client_sdk.experience.situation import Situation
from client_sdk.experience.toml_file import FileMistakeError, TomlFile
from client_sdk.experience.toml_table import TomlTable
from client_sdk.signals.features.columns import BoolArray

VERSION: Final = 1
MAX_ACTIVE_DAYS: Final = 365
MAX_FILE_LINES: Final = 1_000
MAX_FILE_CHARS: Final = 100_000


@dataclass(frozen=True, kw_only=True)
class Review:
    """What waits for a person.

    Attributes:
        high_impact: Whether an action of high impact does.
        below_confidence: A decision below this confidence does, 0 to 1.
        expires_hours: How long it waits; then it is refused by itself.
    """

    high_impact: bool = True
    below_confidence: float = 0.0
    expires_hours: float = 72.0

    def in_words(self) -> str:
        """Say it in a sentence."""
        what = ["high impact"] if self.high_impact else []
        if self.below_confidence:
            what.append(f"a confidence below {self.below_confidence:.0%}")
        if not what:
            return "Nothing waits for a person's approval."
        return (
            f"What has {' or '.join(what)} waits for a person's approval, at most "
            f"{self.expires_hours:g} hours."
        )


@dataclass(frozen=True, kw_only=True)
class GuardrailPolicy:
    """All guardrails of an app; make one with `from_toml` or `read`.

    Attributes:
        name: For the log.
        rules: The guardrails; everything is refused where there is none.
        fallback: Ids of actions for where nothing better may be done, the first that passes.
        minimum_confidence: Below it an action is not done.
        review: What waits for a person.
        exploration: How much may be tried out.
        source: The file's text.
        own_rules: Rules that an app added in code, beyond the file.

    >>> policy = GuardrailPolicy.from_toml('''
    ... version = 1
    ... [channels.push]
    ... per_day = 1
    ... ''')
    >>> print(policy.explain()[0], policy.explain()[2])
    Nothing reaches the person but by push. At most 1 by push in any 24 hours.
    >>> GuardrailPolicy.from_toml("").explain()
    ['Everything is refused: the policy is empty.']
    """

    name: str = "refuse-everything"
    rules: tuple[Rule, ...] = ()
    fallback: tuple[str, ...] = ()
    minimum_confidence: float = 0.0
    review: Review = field(default_factory=Review)
    exploration: Exploration = field(default_factory=Exploration)
    source: str = ""
    own_rules: tuple[Rule, ...] = ()

    @cached_property
    def all_rules(self) -> tuple[Rule, ...]:
        """The rules of the file, then the app's own; none where the file has none."""
        return (*self.rules, *self.own_rules) if self.rules else ()

    @cached_property
    def offers(self) -> OfferActive | None:
        """The rule about offers, where there is one."""
        return next((rule for rule in self.rules if isinstance(rule, OfferActive)), None)

    @cached_property
    def sha256(self) -> str:
        """The hash of everything in it: the file and the own rules."""
        own = "".join(f"\0{rule!r}" for rule in self.own_rules)
        return hashlib.sha256(f"{self.source}{own}".encode()).hexdigest()

    def and_also(self, *rules: Rule) -> GuardrailPolicy:
        """Give this policy with further rules; they refuse more, never less.

        A decision under them can be replayed only while the same rules are in use.
        """
        return replace(self, own_rules=(*self.own_rules, *rules))

    def masks(self, actions: ActionTable, situation: Situation) -> list[tuple[str, BoolArray]]:
        """Ask every rule.

        Returns:
            The name of each rule and bool[n], what it refuses, in order; one that refuses
            everything where there is no rule.
        """
        if not self.rules:
            return [("no-policy", np.ones(len(actions), np.bool_))]
        return [(rule.name, rule.refused(actions, situation)) for rule in self.all_rules]

    def explain(self) -> list[str]:
        """Say the whole policy in plain sentences."""
        if not self.rules:
            return ["Everything is refused: the policy is empty."]
        said = [rule.in_words() for rule in self.all_rules]
        if self.minimum_confidence:
            said.append(f"Nothing with a confidence below {self.minimum_confidence:.0%}.")
        said += [self.review.in_words(), self.exploration.in_words()]
        said.append(
            f"Where nothing else may be done: {', '.join(self.fallback)}, the first that may."
            if self.fallback
            else "Where nothing may be done, nothing is."
        )
        return said

    @classmethod
    def from_toml(cls, text: str, *, file: str = "policy") -> GuardrailPolicy:
        """Read a policy; an empty one refuses everything.

        Args:
            text: TOML, with the keys that the module's docstring lists.
            file: The name of the file, for errors.

        Raises:
            FileMistakeError: not as promised; the message names the file, the line and the remedy.
        """
        top = TomlTable.of(
            TomlFile.read(text, name=file, max_chars=MAX_FILE_CHARS, max_lines=MAX_FILE_LINES)
        )
        if not top.keys:
            return cls()
        if top.whole("version", least=0, most=1 << 31) != VERSION:
            raise top.error(
                "version", f"expected version = {VERSION}; got another or none: use a file of it"
            )
        rules = read_rules(top)
        confidence, review = top.table("confidence"), top.table("review")
        policy = cls(
            name=top.text("name", default="policy"),
            rules=rules,
            fallback=top.ordered_names("fallback") or (),
            minimum_confidence=confidence.number("minimum", least=0, most=1, default=0.0) or 0.0,
            review=_review(review),
            exploration=_exploration(top.table("exploration")),
            source=text,
        )
        for table in (confidence, review, top):
            table.done()
        return policy

    @classmethod
    def read(cls, path: Path) -> GuardrailPolicy:
        """Read a policy file; a missing one refuses everything.

        Raises:
            FileMistakeError: the file is not as promised.
        """
        try:
            text = path.read_bytes().decode("utf-8")
        except FileNotFoundError:
            return cls()
        except UnicodeDecodeError:
            raise FileMistakeError(
                "expected UTF-8 text; got other bytes: save it as UTF-8", file=path.name
            ) from None
        return cls.from_toml(text, file=path.name)


def _review(table: TomlTable) -> Review:
    return Review(
        high_impact=table.flag("high_impact", default=True),
        below_confidence=table.number("below_confidence", least=0, most=1, default=0.0) or 0.0,
        expires_hours=table.number("expires_hours", least=0.1, most=720, default=72.0) or 72.0,
    )


def _exploration(table: TomlTable) -> Exploration:
    standard = Exploration()
    cap = _given(table.number("cap", least=0, most=0.5), standard.cap)
    made = Exploration(
        cap=cap,
        epsilon=_given(table.number("epsilon", least=0, most=cap), standard.epsilon),
        floor=_given(table.number("floor", least=0, most=cap), standard.floor),
        temperature=_given(table.number("temperature", least=0.01, most=100), standard.temperature),
    )
    table.done()
    return made


def _given(value: float | None, default: float) -> float:
    return default if value is None else value
