"""A decision told to its person: what was suggested, why, what was left out, and how sure it is.

Rules a reader can check line by line:

1. Pure: a decision in, sentences out. Every word is a phrase of `phrases`, a name that the app
   gives, or the decision's own reason.
2. Names of rules, stages and models are for machines, and are in no sentence.
3. What was left out is told by cause, the person's own wishes first; each action once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from client_sdk.experience.decisions import Decision, Status
from client_sdk.experience.person import NO_CONSENT, NOTHING_BETTER, NOTHING_KNOWN
from client_sdk.experience.phrases import CAUSES, ENGLISH, check_translation

_NAMED = 3
_QUITE_SURE = 0.8
_FAIRLY_SURE = 0.5
_BY_CHANCE = 0.5
_BECAUSE = "Because "
_FALLBACKS = {NO_CONSENT: "no consent", NOTHING_BETTER: "nothing better"}
_PLACES = {rule: place for place, rule in enumerate(CAUSES)}


@dataclass(frozen=True, kw_only=True)
class Teller:
    """Tells decisions in one language.

    Attributes:
        name: Gives what the person calls an action, by its id; the id by default.
        phrases: A translation of `phrases.ENGLISH`; what it leaves out is said in English.

    Raises:
        ValueError: the translation is none.
    """

    name: Callable[[str], str] = str
    phrases: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_translation(self.phrases)

    def tell(
        self,
        decision: Decision,
        *,
        refused: Mapping[str, Sequence[str]] | None = None,
        same: bool | None = None,
    ) -> list[str]:
        """Tell a decision in plain sentences.

        Args:
            decision: As it was made.
            refused: The id of each action that was left out, and the names of the rules.
            same: Whether deciding again gave the same; None where nobody tried.
        """
        said = [self._what_was_done(decision, refused or {})]
        action = decision.action or decision.proposed
        if decision.reason == NOTHING_KNOWN:
            said.append(self._say("worth"))
        if action is not None and action.rule:
            said.append(self._say("proposed", rule=action.rule))
        if decision.confidence is not None and action is not None:
            said.append(self._say(_sureness(decision.confidence)))
        if decision.propensity is not None and decision.propensity < _BY_CHANCE:
            said.append(self._say("chance", percent=_percent(decision.propensity)))
        said += self._left_out(decision, refused or {})
        if not decision.logged:
            said.append(self._say("not noted"))
        if same is not None:
            said.append(self._say("replayed" if same else "replayed otherwise"))
        return said

    def _what_was_done(self, decision: Decision, refused: Mapping[str, Sequence[str]]) -> str:
        action = decision.action or decision.proposed
        if action is None:
            causes = [rule for rules in refused.values() for rule in rules]
            causes = causes or [rule for stage in decision.stages for rule in stage.refused]
            if not causes:
                return self._say("nothing")
            return self._say("nothing because", cause=self._cause(_told(causes)))
        what = self.name(action.action_id)
        if decision.status is Status.WAITING:
            return self._say("waiting", what=what)
        done, cause = "chosen", ""
        if decision.status is Status.FALLBACK:
            done = "fallback"
            if decision.reason in _FALLBACKS:
                cause = self._say(_FALLBACKS[decision.reason])
        elif decision.reason.startswith(_BECAUSE):
            cause = decision.reason.removeprefix(_BECAUSE).rstrip(".")
        return (
            self._say(f"{done} because", what=what, cause=cause)
            if cause
            else self._say(done, what=what)
        )

    def _left_out(self, decision: Decision, refused: Mapping[str, Sequence[str]]) -> list[str]:
        by_cause: dict[str, list[str]] = {}
        for action_id, rules in refused.items():
            by_cause.setdefault(_told(rules), []).append(self.name(action_id))
        said = []
        for rule in sorted(by_cause, key=_PLACES.__getitem__):
            names, cause = by_cause[rule], self._cause(rule)
            if len(names) == 1:
                said.append(self._say("left out one", what=names[0], cause=cause))
                continue
            what = ", ".join(names[:_NAMED])
            if len(names) > _NAMED:
                what = self._say("and more", what=what, count=str(len(names) - _NAMED))
            said.append(self._say("left out some", count=str(len(names)), what=what, cause=cause))
        unsure = sum(stage.refused.get("minimum-confidence", 0) for stage in decision.stages)
        if unsure:
            cause = self._cause("minimum-confidence")
            said.append(self._say("left out unsure", count=str(unsure), cause=cause))
        return said

    def _cause(self, rule: str) -> str:
        return self._say(f"cause {rule}")

    def _say(self, key: str, **filled: str) -> str:
        return self.phrases.get(key, ENGLISH[key]).format(**filled)


def _told(rules: Sequence[str]) -> str:
    """Give the cause to tell: of several the first one of `CAUSES`."""
    families = [rule.partition(":")[0] for rule in rules]
    return min((each if each in CAUSES else "" for each in families), key=_PLACES.__getitem__)


def _sureness(confidence: float) -> str:
    if confidence >= _QUITE_SURE:
        return "sure"
    return "fairly sure" if confidence >= _FAIRLY_SURE else "unsure"


def _percent(chance: float) -> str:
    return f"{max(round(100 * chance), 1)} in 100"
