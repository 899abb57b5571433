"""What a journey file may hold: the table from which reader and schema follow.

``journey.schema.json`` beside this file is `journey_schema`, printed by
``python -m client_sdk.experience.journeys``.
"""

from __future__ import annotations

from typing import Any, Final

from client_sdk.experience.content.shape import Key, Table, json_schema
from client_sdk.wire import Purpose

MAX_CAP: Final = 64
MAX_WINDOW_DAYS: Final = 31
SUBJECTS: Final = ("feature", "favourite", "event", "fact", "consent", "opt_in")
TESTS: Final = ("is", "is_not", "at_least", "at_most")
_PURPOSES: Final = tuple(str(purpose) for purpose in Purpose)

_CONDITION: Final = Table(
    keys={
        "feature": Key(type="name", meaning="A feature of the person."),
        "favourite": Key(type="name", meaning="The favourite of a map, such as brand_affinity."),
        "event": Key(type="name", meaning="item, price, quantity, or a property of the event."),
        "fact": Key(type="name", meaning="A fact that the app says; see facts."),
        "consent": Key(type="name", meaning="A purpose.", one_of=_PURPOSES),
        "opt_in": Key(
            type="name", meaning="A channel, or a source with a permission, that the person opened."
        ),
        "is": Key(type="scalar", meaning="Holds where it is this; true by default for a yes."),
        "is_not": Key(type="scalar", meaning="Holds where it is known and not this."),
        "at_least": Key(type="scalar", meaning="Holds where it is this number or more."),
        "at_most": Key(type="scalar", meaning="Holds where it is this number or less."),
    },
    exactly_one=SUBJECTS,
)
_ACTION: Final = Table(
    keys={
        "id": Key(type="name", meaning="Unique in the state.", required=True),
        "channel": Key(type="name", meaning="One of channels.", required=True),
        "kind": Key(type="name", meaning="message, offer, content, help; message by default."),
        "content": Key(type="name", meaning="The message of the content library."),
        "slots": Key(type="names", meaning="What its texts may be filled with; see slots."),
        "topic": Key(type="text", meaning="A category, brand or tag.", max_chars=128),
        "tags": Key(type="names", meaning="Further words for rules."),
        "value": Key(type="whole", meaning="What it is worth where it works; 1 by default."),
        "high_impact": Key(type="boolean", meaning="Whether a person has to approve it first."),
        "once": Key(type="boolean", meaning="Whether it may come only once in a journey."),
        "stage": Key(type="name", meaning="Which variants are wanted."),
        "tone": Key(type="name", meaning="Which variants are wanted."),
        "category": Key(type="text", meaning="Which variants are wanted.", max_chars=128),
        "compliance": Key(type="name", meaning="The rules that its content was approved under."),
        "when": Key(type="list", meaning="What has to hold, all of it.", of=_CONDITION),
    }
)
FILE: Final = Table(
    keys={
        "journey": Key(type="name", meaning="The journey's name; it never changes.", required=True),
        "version": Key(type="whole", meaning="Rises with every change.", required=True, minimum=1),
        "title": Key(type="text", meaning="In a few words.", required=True, max_chars=120),
        "start": Key(type="name", meaning="The first state.", required=True),
        "fallback": Key(
            type="name",
            meaning="Where people go whose state a new version does not have.",
            required=True,
        ),
        "channels": Key(
            type="named",
            meaning="Where actions reach the person; each has a cap.",
            required=True,
            of=Table(
                keys={
                    "cap": Key(
                        type="whole",
                        meaning="How many actions at most.",
                        required=True,
                        minimum=1,
                        maximum=MAX_CAP,
                    ),
                    "per": Key(
                        type="duration",
                        meaning=f"In how long; at most {MAX_WINDOW_DAYS} days.",
                        required=True,
                    ),
                    "opt_in": Key(
                        type="boolean",
                        meaning="Whether the person has to open it first.",
                        required=True,
                    ),
                }
            ),
        ),
        "opt_ins": Key(
            type="named",
            meaning="Sources that need the person's permission, such as location.",
            of=Table(keys={"meaning": Key(type="text", meaning="In plain words.", required=True)}),
        ),
        "facts": Key(
            type="named",
            meaning="What the app says of a moment.",
            of=Table(
                keys={
                    "meaning": Key(type="text", meaning="In plain words.", required=True),
                    "consent": Key(
                        type="name",
                        meaning="The purpose that allows its use.",
                        required=True,
                        one_of=_PURPOSES,
                    ),
                    "opt_in": Key(type="name", meaning="What has to be open as well."),
                }
            ),
        ),
        "slots": Key(
            type="named",
            meaning="What texts are filled with.",
            of=Table(
                keys={
                    "from": Key(
                        type="text",
                        meaning="feature:NAME, favourite:MAP or fact:NAME.",
                        required=True,
                        max_chars=80,
                    ),
                    "consent": Key(
                        type="name",
                        meaning="The purpose that allows its use.",
                        required=True,
                        one_of=_PURPOSES,
                    ),
                    "opt_in": Key(type="name", meaning="What has to be open as well."),
                    "decimals": Key(type="whole", meaning="Of a number.", maximum=6),
                }
            ),
        ),
        "states": Key(
            type="named",
            meaning="Where a person can be.",
            required=True,
            of=Table(
                keys={
                    "meaning": Key(type="text", meaning="In plain words.", required=True),
                    "terminal": Key(type="boolean", meaning="Whether the journey ends here."),
                    "enter": Key(type="list", meaning="Done on the way in.", of=_ACTION),
                    "exit": Key(type="list", meaning="Done on the way out.", of=_ACTION),
                }
            ),
        ),
        "transitions": Key(
            type="list",
            meaning="What moves a person, and where to.",
            of=Table(
                keys={
                    "from": Key(type="name", meaning="A state.", required=True),
                    "to": Key(type="name", meaning="A state.", required=True),
                    "on": Key(type="name", meaning="A kind of event."),
                    "after": Key(type="duration", meaning="A time that has passed."),
                    "without": Key(
                        type="names",
                        meaning="Kinds of events that begin the time anew; none by default.",
                    ),
                    "when": Key(type="list", meaning="What has to hold.", of=_CONDITION),
                    "priority": Key(
                        type="whole", meaning="Of two that could fire, the higher one does."
                    ),
                    "because": Key(
                        type="text",
                        meaning="Completes 'Because ...' for the person.",
                        required=True,
                        max_chars=200,
                    ),
                },
                exactly_one=("on", "after"),
            ),
        ),
    }
)


def journey_schema() -> dict[str, Any]:
    """Give what `Journey.from_toml` reads as a JSON Schema (draft 2020-12).

    What a schema cannot say, `client_sdk.experience.journeys.validate` does: whether names exist,
    whether states are reached and left, whether triggers conflict, whether guards stand.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:homebody:journey",
        "title": "Homebody journey",
        "description": "States, triggers and actions of one journey.",
        **json_schema(FILE),
    }
