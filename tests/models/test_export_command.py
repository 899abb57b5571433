"""``python -m models.export``: a file that passed the gate, or one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from client_sdk.intelligence.litert import LiteRtModel
from models.export import main


def test_export_command_writes_a_checked_graph(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is written loads on a device and has the promised signatures."""
    out = tmp_path / "graph.tflite"
    assert main(["--rank", "3", "--batch", "8", "--out", str(out)]) == 0
    assert LiteRtModel(out.read_bytes()).signatures == ("project", "score", "train")
    assert "within" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["--rank", "0", "--batch", "8", "--out", "x.tflite"],
        ["--rank", "three", "--batch", "8", "--out", "x.tflite"],
        ["--rank", "3", "--batch", "8", "--out", "/nowhere/x.tflite"],
        [],
    ],
)
def test_export_command_mistakes_end_with_exit_code_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nonsense is named and nothing is written."""
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    assert "error:" in capsys.readouterr().err
