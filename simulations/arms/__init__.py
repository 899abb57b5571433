"""Arms to compare with, so that a number means something: each knows what it says, and no more."""

from simulations.arms.errors import (
    ArmError,
    LibraryMissingError,
    PrivacyNotAskedError,
    UnknownArmError,
)
from simulations.arms.material import CENTRAL_RIDGE, Arms
from simulations.arms.registry import (
    ARMS,
    Arm,
    ArmSettings,
    Claim,
    MadeArm,
    Request,
    make_arm,
)

__all__ = [
    "ARMS",
    "CENTRAL_RIDGE",
    "Arm",
    "ArmError",
    "ArmSettings",
    "Arms",
    "Claim",
    "LibraryMissingError",
    "MadeArm",
    "PrivacyNotAskedError",
    "Request",
    "UnknownArmError",
    "make_arm",
]
