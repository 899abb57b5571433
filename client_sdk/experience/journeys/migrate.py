"""Hot swap: people go on in another version of their journey where they were in the one before.

Rules a reader can check line by line:

1. A state that the new version has is kept, with its time; another one becomes the new version's
   fallback, entered now.
2. What was sent, and what came once, is kept: no cap and no "only once" is loosened by another
   version. Sends by a channel that it lacks are forgotten with it.
3. Nothing is proposed by a migration.
4. The number may fall: a release that is rolled back brings an older version, and people go on in
   that. That releases themselves only rise is delivery's rule.
"""

from __future__ import annotations

import dataclasses

from client_sdk.experience.journeys.journey import Journey
from client_sdk.experience.journeys.state import JourneyState


def fits(state: JourneyState, journey: Journey) -> bool:
    """Say whether a state is of this version of a journey, so that the runner takes it."""
    return (state.journey, state.version) == (
        journey.name,
        journey.version,
    ) and state.at in journey.states


def migrate(state: JourneyState, new: Journey, *, now_s: float) -> JourneyState:
    """Move a person's state to another version.

    Args:
        state: Of any version of the journey.
        new: The version that it shall be of.
        now_s: Seconds since 1970 (UTC).

    Raises:
        ValueError: the state is of another journey.
    """
    if state.journey != new.name:
        raise ValueError(f"state: expected one of {new.name!r}; got one of another journey")
    sent = {name: times for name, times in state.sent_s.items() if name in new.channels}
    kept = dataclasses.replace(state, version=new.version, sent_s=sent)
    if state.at in new.states:
        waited = {kind for one in new.leaving(state.at) for kind in one.without}
        seen = {kind: time_s for kind, time_s in state.seen_s.items() if kind in waited}
        return dataclasses.replace(kept, seen_s=seen)
    return dataclasses.replace(kept, at=new.fallback, entered_s=now_s, seen_s={}, item_id=None)
