"""The aggregator's errors, named by what the operator can do.

A caller's mistake is `ValueError`.
"""

from __future__ import annotations


class AggregatorError(Exception):
    """Base of every error that the aggregator raises on purpose."""


class QuorumNotReachedError(AggregatorError):
    """Too few contributions were admitted: nothing was published; ask again later.

    Attributes:
        accepted: Contributions that were admitted.
        quorum: Contributions that were needed.
        refusals: How often each reason was counted.
    """

    def __init__(self, *, accepted: int, quorum: int, refusals: dict[str, int]) -> None:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(refusals.items()))
        super().__init__(
            f"expected at least {quorum} contributions; got {accepted} "
            f"(refused: {reasons or 'none'}). Nothing was published; invite more devices or retry."
        )
        self.accepted = accepted
        self.quorum = quorum
        self.refusals = refusals


class PortInUseError(AggregatorError):
    """Another program listens on the port: choose another one, or stop that program."""


class SuperLinkError(AggregatorError):
    """The SuperLink did not start, or stopped answering: see its log, then start it again."""


class RegistryError(AggregatorError):
    """The consent registry cannot be read or written: no task may run until it can."""


class RunStateError(AggregatorError):
    """A training run's stored state and the ledger contradict each other, or the run is over.

    Nothing more is published of it: look at the ledger's rows, then start a new run.
    """


class RunKeyError(AggregatorError):
    """A training run's noise key is lost or readable by others: the run cannot go on safely."""
