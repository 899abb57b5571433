"""The runtime port: what reaches the interpreter, and what does not."""

import importlib.util
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

from client_sdk.intelligence.litert import (
    LiteRtModel,
    LiteRtUnavailableError,
    ModelFormatError,
    ModelRunError,
    TensorShape,
    _check_inputs,
    _import_runtime,
)

RANK, BATCH = 4, 8


def _project_inputs(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "rows": rng.standard_normal((BATCH, RANK)).astype(np.float32),
        "values": rng.standard_normal(BATCH).astype(np.float32),
    }


@pytest.fixture(scope="module")
def model(small_graph: bytes) -> LiteRtModel:
    """The exported ranker in the real runtime."""
    return LiteRtModel(small_graph)


def test_model_names_its_signatures_and_shapes(model: LiteRtModel) -> None:
    """A host can read what a model expects before it runs it."""
    assert model.signatures == ("project", "score", "train")
    assert model.input_shapes("project") == {
        "rows": TensorShape(shape=(BATCH, RANK), dtype="float32"),
        "values": TensorShape(shape=(BATCH,), dtype="float32"),
    }
    assert model.output_shapes("project")["vector"].shape == (RANK,)
    assert model.input_shapes("train")["learning_rate"].shape == ()


def test_run_gives_what_numpy_gives(model: LiteRtModel) -> None:
    """A signature computes its formula."""
    inputs = _project_inputs()
    vector = model.run("project", inputs)["vector"]
    assert np.abs(vector - inputs["values"] @ inputs["rows"]).max() < 1e-5


def test_run_outputs_belong_to_the_caller(model: LiteRtModel) -> None:
    """A later run does not change an earlier result."""
    first = model.run("project", _project_inputs(0))["vector"]
    kept = first.copy()
    model.run("project", _project_inputs(1))
    assert np.array_equal(first, kept)


def _broken(**change: Any) -> dict[str, Any]:
    return {**_project_inputs(), **change}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (_broken(values=np.zeros(BATCH + 1, np.float32)), "must be float32"),
        (_broken(values=np.zeros(1, np.float32)), "must be float32"),
        (_broken(values=np.zeros((BATCH, 1), np.float32)), "must be float32"),
        (_broken(values=np.zeros(BATCH)), "must be float32"),
        (_broken(values=np.full(BATCH, np.nan, np.float32)), "must be finite"),
        (_broken(values=np.full(BATCH, np.inf, np.float32)), "must be finite"),
        (_broken(more=np.zeros(1, np.float32)), "needs inputs"),
        ({"rows": np.zeros((BATCH, RANK), np.float32)}, "needs inputs"),
    ],
)
def test_run_input_that_does_not_fit_is_refused(
    model: LiteRtModel, inputs: dict[str, Any], message: str
) -> None:
    """Wrong name, shape, kind, or a value that is not finite never reaches the interpreter."""
    with pytest.raises(ValueError, match=message):
        model.run("project", inputs)


def test_run_input_that_is_no_array_is_refused(model: LiteRtModel) -> None:
    """Lists have no kind, so they are refused too."""
    with pytest.raises(TypeError, match="numpy array"):
        model.run("project", _broken(values=[0.0] * BATCH))


def test_run_unknown_signature_is_refused(model: LiteRtModel) -> None:
    """The error names what there is."""
    for call in (model.input_shapes, model.output_shapes, lambda name: model.run(name, {})):
        with pytest.raises(ValueError, match="signature must be one of"):
            call("delete")


def test_run_output_that_overflows_is_refused(model: LiteRtModel) -> None:
    """The kernels clamp an overflow to the largest float: it is an error, not a ranking."""
    huge = {k: np.full(v.shape, 3e38, np.float32) for k, v in _project_inputs().items()}
    with pytest.raises(ModelRunError, match="overflowed"):
        model.run("project", huge)


def test_run_many_threads_share_one_model() -> None:
    """With the lock, each thread gets its own answer; without it, some get another's."""
    graph = pytest.importorskip("models.export").export_ranker(rank=32, batch=256)
    shared = LiteRtModel(graph)
    wrong: list[int] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        rows = rng.standard_normal((256, 32)).astype(np.float32)
        values = rng.standard_normal(256).astype(np.float32)
        expected = values @ rows
        for _ in range(500):
            vector = shared.run("project", {"rows": rows, "values": values})["vector"]
            wrong.extend([seed] * bool(np.abs(vector - expected).max() > 1e-3))

    interval_s = sys.getswitchinterval()
    # Threads that hardly ever switch would hide a missing lock.
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval_s)
    assert wrong == []


@pytest.mark.parametrize("data", [b"", b"short", b"\x00" * 64, b"{}" * 40])
def test_model_bytes_that_are_no_model_are_refused(data: bytes) -> None:
    """The identifier is checked before the runtime is asked."""
    with pytest.raises(ModelFormatError, match="TFL3"):
        LiteRtModel(data)


@pytest.mark.skipif(
    importlib.util.find_spec("ai_edge_litert") is None,
    reason="tflite-runtime 2.14 crashes on damaged bytes; delivery verifies them before",
)
def test_model_cut_bytes_are_refused(small_graph: bytes) -> None:
    """The runtime's own refusal comes as ours."""
    with pytest.raises(ModelFormatError, match="refuses"):
        LiteRtModel(small_graph[: len(small_graph) // 2])


def test_model_needs_a_thread_and_a_known_runtime(small_graph: bytes) -> None:
    """A caller's mistakes are named."""
    with pytest.raises(ValueError, match="num_threads"):
        LiteRtModel(small_graph, num_threads=0)
    with pytest.raises(ValueError, match="runtime must be one of"):
        LiteRtModel(small_graph, runtime="os")


def test_runtime_missing_says_what_to_install() -> None:
    """Where the asked runtime isn't installed, the error says what to do."""
    try:
        import tflite_runtime  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        with pytest.raises(LiteRtUnavailableError, match="install ai-edge-litert"):
            _import_runtime("tflite_runtime.interpreter")


def test_check_inputs_scalar_and_size_one_are_different() -> None:
    """The runtime broadcasts size-1 arrays; we don't let them through."""
    scalar = {"rate": TensorShape(shape=(), dtype="float32")}
    _check_inputs("train", scalar, {"rate": np.asarray(0.1, np.float32)})
    with pytest.raises(ValueError, match="rate"):
        _check_inputs("train", scalar, {"rate": np.full(1, 0.1, np.float32)})


def test_intelligence_import_loads_numpy_and_nothing_heavier() -> None:
    """An app that only ranks pays for no runtime."""
    code = (
        "import sys, client_sdk.intelligence, client_sdk.intelligence.litert, "
        "client_sdk.intelligence.item_training; "
        "heavy = {'tensorflow', 'ai_edge_litert', 'tflite_runtime', 'scipy', 'flwr'}; "
        "print(sorted(heavy & {m.split('.')[0] for m in sys.modules}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
