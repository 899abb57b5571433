"""Experience: what the person asked for, before anything is decided for them."""

from client_sdk.experience.preferences import (
    NO_PREFERENCES,
    PreferenceCentre,
    PreferenceChange,
    Preferences,
    united,
)

__all__ = [
    "NO_PREFERENCES",
    "PreferenceCentre",
    "PreferenceChange",
    "Preferences",
    "united",
]
