"""The parts of a release that decide and speak: guardrails, journeys, content. Data, never code.

The publisher reads them with this before it signs, and the device before it uses them: what a
device would refuse is never published, and what was published by other means is refused there.

Rules a reader can check line by line:

1. Bytes in, values out, or one `FileMistakeError` with file, line and remedy; no input or output.
2. A journey's file is called after the journey, and so is its content.
3. Guardrails that come along name every channel of the journeys beside them: one that they don't
   would be refused at every proposal. Guardrails that refuse everything are published by nobody by
   mistake: an empty file is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from client_sdk.experience.guardrails.policy import GuardrailPolicy
from client_sdk.experience.guardrails.reach import KnownChannel
from client_sdk.experience.journeys.parts import STANDARD_FEATURES
from client_sdk.experience.journeys.programme import Programme
from client_sdk.experience.toml_file import FileMistakeError, TomlFile
from client_sdk.wire import CONTENT_SUFFIX, GUARDRAILS_FILE, JOURNEY_SUFFIX


@dataclass(frozen=True, kw_only=True)
class ReleasedParts:
    """What a release brings along.

    Attributes:
        guardrails: None where it says nothing of them.
        programmes: The journeys with their content, by name.
    """

    guardrails: GuardrailPolicy | None
    programmes: tuple[Programme, ...]


def read_parts(
    files: Mapping[str, bytes], *, features: Iterable[str] = STANDARD_FEATURES
) -> ReleasedParts:
    """Read the parts among the files of a release; other files are not looked at.

    Args:
        files: File name to bytes.
        features: The names of the features that the app has.

    Raises:
        FileMistakeError: one is not as promised, or they do not fit together.

    >>> read_parts({"guardrails.toml": b"version = 1"})
    Traceback (most recent call last):
    client_sdk.experience.toml_file.FileMistakeError: guardrails.toml, line 1: channels: expected \
at least one channel; got none: add [channels.NAME]
    """
    known = tuple(features)
    guardrails = None
    if GUARDRAILS_FILE in files:
        guardrails = GuardrailPolicy.from_toml(_text(files, GUARDRAILS_FILE), file=GUARDRAILS_FILE)
        if not guardrails.rules:
            raise FileMistakeError(
                "expected rules; got an empty file, which refuses everything: add some, or leave "
                "the file out",
                file=GUARDRAILS_FILE,
            )
    stems = sorted(
        name.removesuffix(JOURNEY_SUFFIX) for name in files if name.endswith(JOURNEY_SUFFIX)
    )
    programmes = tuple(_programme(files, stem, known) for stem in stems)
    if guardrails is not None:
        for programme in programmes:
            _check_channels(files, programme, guardrails)
    return ReleasedParts(guardrails=guardrails, programmes=programmes)


def _programme(files: Mapping[str, bytes], stem: str, features: tuple[str, ...]) -> Programme:
    journey, content = f"{stem}{JOURNEY_SUFFIX}", f"{stem}{CONTENT_SUFFIX}"
    if content not in files:
        raise FileMistakeError(
            f"expected {content} beside it; got none: add what the journey says", file=journey
        )
    programme = Programme.from_toml(
        _text(files, journey), _text(files, content), features=features, names=(journey, content)
    )
    if programme.name != stem:
        raise TomlFile.read(_text(files, journey), name=journey).mistake(
            ("journey",),
            f"expected the name of the file, {stem!r}; got {programme.name!r}: rename one of them",
        )
    return programme


def _check_channels(
    files: Mapping[str, bytes], programme: Programme, guardrails: GuardrailPolicy
) -> None:
    known = frozenset[str]().union(
        *(rule.channels for rule in guardrails.rules if isinstance(rule, KnownChannel))
    )
    for name in programme.journey.channels:
        if name not in known:
            journey = f"{programme.name}{JOURNEY_SUFFIX}"
            raise TomlFile.read(_text(files, journey), name=journey).mistake(
                ("channels", name),
                f"expected a channel of {GUARDRAILS_FILE}; got {name!r}, by which nothing would "
                f"ever come: add [channels.{name}] there",
            )


def _text(files: Mapping[str, bytes], name: str) -> str:
    try:
        return files[name].decode("utf-8")
    except UnicodeDecodeError:
        raise FileMistakeError(
            "expected UTF-8 text; got other bytes: save it as UTF-8", file=name
        ) from None
