"""Guardrails, journeys and content before they are signed: read by the device's own reader.

This is the one file of the server that knows a room of the device: what a device would refuse must
not be published, and only the code that devices run can say what that is.

Rules a reader can check line by line:

1. What is published reads without a mistake (`client_sdk.experience.released.read_parts`).
2. A journey that changed since the served release has a higher version, so that no person's state
   is taken for one of another text. A roll-back is another matter: it brings old files back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from client_sdk.experience.journeys.parts import STANDARD_FEATURES
from client_sdk.experience.released import read_parts
from client_sdk.experience.toml_file import TomlFile
from client_sdk.wire import JOURNEY_SUFFIX, is_experience_file


def experience_files(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Give the guardrails, journeys and contents among the files of a release."""
    return {name: content for name, content in files.items() if is_experience_file(name)}


def check_experience(
    files: Mapping[str, bytes],
    *,
    served: Mapping[str, bytes],
    own_features: Sequence[str] = (),
) -> None:
    """Refuse what a device would refuse, or could take for something else.

    Args:
        files: Of the release that is to be published; others than these parts are not looked at.
        served: Of the release that is served now; empty before the first.
        own_features: The app's own features, beside the standard ones, that journeys may ask for.

    Raises:
        ValueError: the first mistake, with file, line and remedy.
    """
    features = (*STANDARD_FEATURES, *own_features)
    for programme in read_parts(files, features=features).programmes:
        name = f"{programme.name}{JOURNEY_SUFFIX}"
        if files[name] == served.get(name, files[name]):
            continue
        # Not read as a journey: the app may have lost a feature that the old one asked for.
        old = TomlFile.read(served[name].decode(), name=name).tables["version"]
        version = programme.journey.version
        if version <= old:
            raise TomlFile.read(files[name].decode(), name=name).mistake(
                ("version",),
                f"expected above {old}, since the journey differs from the one that is served; "
                f"got {version}: raise it",
            )
