"""What became of a proposal of a journey: the decision, and the text where it was let through.

Rules a reader can check line by line:

1. There is a text only where the decider let the action through; what waits for a person has none
   yet.
2. The text is filled from what the journey could see at that moment (`Step.seen`), and from nothing
   else.
"""

from __future__ import annotations

from dataclasses import dataclass

from client_sdk.experience.content.copywriter import Copy
from client_sdk.experience.content.variants import Written
from client_sdk.experience.decisions import Decision, Status
from client_sdk.experience.journeys.limits import Withheld
from client_sdk.experience.journeys.runner import Proposal
from client_sdk.experience.journeys.state import JourneyState


@dataclass(frozen=True, kw_only=True)
class Message:
    """One proposal, judged.

    Attributes:
        proposal: What the journey proposed, and its reason.
        decision: What the decider said of it; its id is what `outcome` and `why` take.
        written: Which variant of the message, filled; None where nothing is said.
        copy: The text, with what the guard objected to; None where nothing is said.
    """

    proposal: Proposal
    decision: Decision
    written: Written | None = None
    copy: Copy | None = None

    @property
    def shown(self) -> bool:
        """Whether it is to be done now."""
        return self.decision.action is not None

    @property
    def waits(self) -> bool:
        """Whether a person has to approve it first."""
        return self.decision.status is Status.WAITING

    @property
    def text(self) -> str:
        """What to say; empty where nothing is said."""
        return "" if self.copy is None else self.copy.text

    def in_words(self) -> list[str]:
        """Say why, in plain sentences: the journey's reason, then the decider's."""
        return [self.proposal.reason, *self.decision.in_words()]


@dataclass(frozen=True, kw_only=True)
class JourneyStep:
    """What one step of one journey gave.

    Attributes:
        state: Where the person is now; it is kept.
        moved: Whether that changed.
        messages: What the journey proposed, judged, in order.
        withheld: What the journey itself did not propose, and why.
        reasons: What happened, in plain words.
    """

    state: JourneyState
    moved: bool
    messages: tuple[Message, ...]
    withheld: tuple[Withheld, ...]
    reasons: tuple[str, ...]
