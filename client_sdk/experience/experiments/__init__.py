"""Experiments: who sees which arm, what came of it, and one bounded vector a person for the sum."""

from client_sdk.experience.experiments.assignment import Assignment, Standing, assign
from client_sdk.experience.experiments.desk import Desk
from client_sdk.experience.experiments.experiment import (
    Arm,
    Experiment,
    Layer,
    check_together,
)
from client_sdk.experience.experiments.log import EXPERIMENT_STREAM, ExperimentLog
from client_sdk.experience.experiments.metrics import FieldError, Guard, Metric

__all__ = [
    "EXPERIMENT_STREAM",
    "Arm",
    "Assignment",
    "Desk",
    "Experiment",
    "ExperimentLog",
    "FieldError",
    "Guard",
    "Layer",
    "Metric",
    "Standing",
    "assign",
    "check_together",
]
