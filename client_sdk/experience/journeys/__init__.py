"""Journeys: states, what moves a person between them, what is proposed on the way, and no more."""

from client_sdk.experience.journeys.conditions import Condition
from client_sdk.experience.journeys.desk import JourneyDesk
from client_sdk.experience.journeys.diagram import mermaid, svg
from client_sdk.experience.journeys.journey import (
    InvalidJourneyError,
    Journey,
    mistakes_in,
)
from client_sdk.experience.journeys.limits import Withheld
from client_sdk.experience.journeys.message import JourneyStep, Message
from client_sdk.experience.journeys.migrate import migrate
from client_sdk.experience.journeys.parts import (
    ActionRule,
    Channel,
    FactRule,
    Plan,
    Problem,
    State,
    Transition,
)
from client_sdk.experience.journeys.programme import Programme
from client_sdk.experience.journeys.runner import Proposal, Runner, Step
from client_sdk.experience.journeys.simulate import SimulationReport, simulate
from client_sdk.experience.journeys.state import JourneyState, StaleJourneyError
from client_sdk.experience.journeys.store import JourneyStore
from client_sdk.experience.journeys.tables import journey_schema
from client_sdk.experience.journeys.validate import problems_of
from client_sdk.experience.journeys.words import explain

__all__ = [
    "ActionRule",
    "Channel",
    "Condition",
    "FactRule",
    "InvalidJourneyError",
    "Journey",
    "JourneyDesk",
    "JourneyState",
    "JourneyStep",
    "JourneyStore",
    "Message",
    "Plan",
    "Problem",
    "Programme",
    "Proposal",
    "Runner",
    "SimulationReport",
    "StaleJourneyError",
    "State",
    "Step",
    "Transition",
    "Withheld",
    "explain",
    "journey_schema",
    "mermaid",
    "migrate",
    "mistakes_in",
    "problems_of",
    "simulate",
    "svg",
]
