"""Features: what a person's events say about intent and friction, declared, folded and read."""

from client_sdk.signals.features.catalogue import CatalogueColumns
from client_sdk.signals.features.columns import EventColumns
from client_sdk.signals.features.context import DEVICES, REGIONS, Context
from client_sdk.signals.features.custom import PropertyFeature
from client_sdk.signals.features.definitions import FeatureDefinition
from client_sdk.signals.features.feature_set import FeatureSet
from client_sdk.signals.features.histogram import bins_of, histogram
from client_sdk.signals.features.policy import FeaturePolicy
from client_sdk.signals.features.standard import STANDARD
from client_sdk.signals.features.vector import MAPS, FeatureVector

__all__ = [
    "DEVICES",
    "MAPS",
    "REGIONS",
    "STANDARD",
    "CatalogueColumns",
    "Context",
    "EventColumns",
    "FeatureDefinition",
    "FeaturePolicy",
    "FeatureSet",
    "FeatureVector",
    "PropertyFeature",
    "bins_of",
    "histogram",
]
