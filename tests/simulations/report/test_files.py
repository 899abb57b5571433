"""Results are written whole or not at all, and where they cannot be, that is known beforehand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulations.report.files import OutputError, check_writable, to_plain, write_results


def test_check_writable_good_places_leave_nothing_behind(tmp_path: Path) -> None:
    """A folder that does not exist yet is not made by asking."""
    check_writable(json_path=tmp_path / "r.json", folder=tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_check_writable_folder_as_json_is_refused(tmp_path: Path) -> None:
    """A folder's name is not a file's."""
    with pytest.raises(OutputError, match="is not a file"):
        check_writable(json_path=tmp_path, folder=None)


def test_check_writable_device_as_json_is_refused() -> None:
    """Moving a file over a device would replace the device."""
    with pytest.raises(OutputError, match="is not a file"):
        check_writable(json_path=Path("/dev/null"), folder=None)


def test_check_writable_missing_folder_of_json_is_refused(tmp_path: Path) -> None:
    """A folder is not guessed into being for a single file."""
    with pytest.raises(OutputError, match="does not exist"):
        check_writable(json_path=tmp_path / "none" / "r.json", folder=None)


def test_check_writable_file_on_the_way_is_refused(tmp_path: Path) -> None:
    """A report cannot live below a file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is not a folder"):
        check_writable(json_path=None, folder=tmp_path / "file" / "report")


def test_check_writable_folder_that_refuses_files_is_refused() -> None:
    """Trying is the only proof: permission bits say yes to the administrator."""
    with pytest.raises(OutputError, match="cannot write to /proc"):
        check_writable(json_path=None, folder=Path("/proc/report"))
    with pytest.raises(OutputError, match="cannot write to /proc"):
        check_writable(json_path=Path("/proc/r.json"), folder=None)


def test_write_results_json_has_everything_but_the_example(
    tmp_path: Path, result: dict[str, Any]
) -> None:
    """One person's list is for the page on this machine, not for a file that travels."""
    path = tmp_path / "r.json"
    assert write_results(result, json_path=path, report_path=None) == [path]
    written = json.loads(path.read_text("utf-8"))
    assert set(written) == set(result) - {"example"}
    assert written["metrics"]["central"]["next"]["hr@10"]["seeds"] == 3
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_write_results_page_makes_its_folder(tmp_path: Path, result: dict[str, Any]) -> None:
    """The folder was checked, now it is made."""
    path = tmp_path / "a" / "b" / "report.html"
    assert write_results(result, json_path=None, report_path=path) == [path]
    assert path.read_text("utf-8").startswith("<!doctype html>")


def test_write_results_failure_leaves_the_old_file(tmp_path: Path) -> None:
    """What cannot be written as JSON does not destroy what was there."""
    path = tmp_path / "r.json"
    path.write_text("old")
    with pytest.raises(TypeError):
        write_results({"data": object()}, json_path=path, report_path=None)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_write_results_place_that_vanished_is_one_error(tmp_path: Path) -> None:
    """The check came before; the world may have changed since."""
    (tmp_path / "gone").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_results({}, json_path=tmp_path / "gone" / "r.json", report_path=None)


def test_to_plain_numbers_of_numpy_become_json() -> None:
    """Arrays, numbers, paths and what is not finite."""
    value = {
        1: np.arange(2),
        "b": (np.float64("inf"), float("nan"), np.int64(3), np.bool_(True)),
        "c": Path("x"),
    }
    assert to_plain(value) == {"1": [0, 1], "b": [None, None, 3, True], "c": "x"}


def test_check_writable_json_in_the_reports_new_folder_is_fine(tmp_path: Path) -> None:
    """`--out DIR --json DIR/r.json` works where DIR is new: the report makes it."""
    folder = tmp_path / "new"
    check_writable(json_path=folder / "r.json", folder=folder)
    assert not folder.exists()
    write_results({"a": 1}, json_path=folder / "r.json", report_path=None)
    assert (folder / "r.json").is_file()
