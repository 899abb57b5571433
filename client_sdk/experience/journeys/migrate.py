"""Hot swap: people go on in a new version of their journey where they were in the old one.

Rules a reader can check line by line:

1. A state that the new version has is kept, with its time; another one becomes the new version's
   fallback, entered now.
2. What was sent, and what came once, is kept: no cap and no "only once" is loosened by a new
   version. Sends by a channel that the new version lacks are forgotten with it.
3. Nothing is proposed by a migration.
"""

from __future__ import annotations

import dataclasses

from client_sdk.experience.journeys.journey import Journey
from client_sdk.experience.journeys.state import JourneyState


def migrate(state: JourneyState, old: Journey, new: Journey, *, now_s: float) -> JourneyState:
    """Move a person's state to a new version.

    Args:
        state: Of the old version.
        old: The version that the state is of.
        new: The version that it shall be of.
        now_s: Seconds since 1970 (UTC).

    Raises:
        ValueError: two journeys of different names, a new version that is older, or a state that is
            not of the old version.
    """
    if old.name != new.name or new.version < old.version:
        raise ValueError("new: expected the same journey in the same or a later version")
    if (state.journey, state.version) != (old.name, old.version):
        raise ValueError("state: expected one of the old version; got another")
    sent = {name: times for name, times in state.sent_s.items() if name in new.channels}
    kept = dataclasses.replace(state, version=new.version, sent_s=sent)
    if state.at in new.states:
        waited = {kind for one in new.leaving(state.at) for kind in one.without}
        seen = {kind: time_s for kind, time_s in state.seen_s.items() if kind in waited}
        return dataclasses.replace(kept, seen_s=seen)
    return dataclasses.replace(kept, at=new.fallback, entered_s=now_s, seen_s={}, item_id=None)
