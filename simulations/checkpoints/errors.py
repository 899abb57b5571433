"""What can be wrong with a folder of checkpoints."""

from __future__ import annotations


class CheckpointError(Exception):
    """A simulation can't go on from this folder; the message says what to do."""


class CheckpointDamagedError(CheckpointError):
    """A checkpoint is cut or changed, or is missing where the ledger or the runs know of more."""


class CheckpointForeignError(CheckpointError):
    """The checkpoint is another simulation's: other settings, other people or other code."""


class FolderInUseError(CheckpointError):
    """Another process works on this simulation."""
