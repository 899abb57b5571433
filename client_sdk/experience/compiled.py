"""A compiled policy: over one table of actions, asking a rule only where it may say something new.

Rules a reader can check line by line:

1. `CompiledPolicy.judge` gives what `decisions.judge` gives for the same table, situation and
   policy. A replay judges by the latter, so each replay checks this file.
2. A rule that says what it looks at (`AttentiveRule`) is asked again only where that differs from
   the last time. Any other rule is asked every time.
3. What is kept is one mask a rule, one verdict, and what the rules looked at; nothing of it is
   written anywhere, and a policy or a table that changes is compiled anew.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeGuard

from client_sdk.experience.action_table import ActionTable
from client_sdk.experience.decisions import Verdict, verdict_of
from client_sdk.experience.guardrails.policy import GuardrailPolicy
from client_sdk.experience.guardrails.reach import Cap
from client_sdk.experience.guardrails.rule import AttentiveRule, Rule
from client_sdk.experience.ledger import Counts
from client_sdk.experience.situation import NO_COUNTS, Situation
from client_sdk.signals.features.columns import BoolArray


class CompiledPolicy:
    r"""A policy over one table of actions.

    Args:
        actions: The table.
        policy: The policy.

    >>> from client_sdk.experience.actions import Action
    >>> policy = GuardrailPolicy.from_toml("version = 1\n[channels.push]\nper_day = 1")
    >>> compiled = CompiledPolicy(ActionTable([Action(action_id="a", channel="push")]), policy)
    >>> dict(compiled.judge(Situation(now_s=0.0)).refused)
    {'opt-in': 1}
    >>> len(compiled.judge(Situation(now_s=0.0, opted_in=frozenset({"push"}))).rows)
    1
    """

    def __init__(self, actions: ActionTable, policy: GuardrailPolicy) -> None:
        self.actions = actions
        self.policy = policy
        self._rules: tuple[Rule, ...] = policy.all_rules
        places = list(enumerate(self._rules))
        attentive = [(place, rule) for place, rule in places if _is_attentive(rule)]
        attentive.sort(key=lambda pair: not isinstance(pair[1], Cap))
        self._attentive = [place for place, _ in attentive]
        # Caps are most of the rules of a policy, so they are not even asked what they look at.
        self._caps = [
            (rule.channel, Counts._fields.index(rule.per), rule.limit)
            for _, rule in attentive
            if isinstance(rule, Cap)
        ]
        self._looks = [rule.looks_at for _, rule in attentive if not isinstance(rule, Cap)]
        self._others = [place for place in range(len(places)) if place not in self._attentive]
        self._seen: tuple[Hashable, ...] = ()
        self._masks: list[BoolArray] = []
        self._verdict: Verdict | None = None

    def judge(self, situation: Situation) -> Verdict:
        """Ask every rule about every action."""
        counts = situation.counts
        seen = (
            *[counts.get(name, NO_COUNTS)[per] >= limit for name, per, limit in self._caps],
            *[look(situation) for look in self._looks],
        )
        verdict = self._verdict
        if verdict is None:
            masks = [mask for _, mask in self.policy.masks(self.actions, situation)]
        elif seen == self._seen and not self._others:
            return verdict
        else:
            pairs = zip(self._attentive, seen, self._seen, strict=True)
            changed = [place for place, now, before in pairs if now != before]
            masks = list(self._masks)
            for place in (*changed, *self._others):
                masks[place] = self._rules[place].refused(self.actions, situation)
        names = [rule.name for rule in self._rules] or ["no-policy"]
        verdict = verdict_of(len(self.actions), zip(names, masks, strict=True))
        # All at once and last: a rule that fails leaves everything as it was.
        self._seen, self._masks, self._verdict = seen, masks, verdict
        return verdict


def _is_attentive(rule: Rule) -> TypeGuard[AttentiveRule]:
    # Asking a runtime Protocol costs ten times as much, for every rule of every new table.
    return hasattr(rule, "looks_at")
