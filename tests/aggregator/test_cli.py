"""``homebody server``: what it prints and returns. Every mistake is one line and code 2."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aggregator.cli import DONE, UNHEALTHY, USAGE, main
from aggregator.repository import Repository
from client_sdk.testing import sample_catalogue
from client_sdk.wire import CATALOGUE_FILE, DEFAULT_POLICY, POLICY_FILE

ROOT = Path(__file__).parents[2]
FILES = {CATALOGUE_FILE: sample_catalogue().to_bytes(), POLICY_FILE: DEFAULT_POLICY.to_bytes()}

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; give its code, stdout and stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        code = main(["server", *map(str, words)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def assert_one_clear_line(code: int, out: str, err: str) -> None:
    """What every mistake looks like."""
    assert code == USAGE
    assert out == ""
    assert err.startswith("homebody: error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err


class TestInit:
    """``init``."""

    def test_init_says_what_to_embed_keep_and_run(self, run: Run, tmp_path: Path) -> None:
        """The three things an operator must know."""
        code, out, err = run("init", "--dir", tmp_path / "r")
        assert (code, err) == (DONE, "")
        assert str(tmp_path / "r" / "metadata" / "1.root.json") in out
        assert str(tmp_path / "r" / "keys") in out
        assert "homebody server run" in out

    def test_init_twice_is_a_mistake(self, run: Run, tmp_path: Path) -> None:
        """Nothing is overwritten."""
        run("init", "--dir", tmp_path / "r")
        root = Repository(tmp_path / "r").trusted_root()
        assert_one_clear_line(*run("init", "--dir", tmp_path / "r"))
        assert Repository(tmp_path / "r").trusted_root() == root

    def test_init_where_nothing_can_be_written_is_a_mistake(self, run: Run, tmp_path: Path) -> None:
        """A file stands where the folder should be."""
        (tmp_path / "file").write_bytes(b"")
        assert_one_clear_line(*run("init", "--dir", tmp_path / "file" / "r"))


class TestStatusAndRollback:
    """``status`` and ``rollback``."""

    def test_status_of_an_empty_repository(self, run: Run, tmp_path: Path) -> None:
        """Fresh, and nothing in it yet."""
        run("init", "--dir", tmp_path / "r")
        code, out, _ = run("status", "--dir", tmp_path / "r")
        assert code == DONE
        assert "none yet" in out

    def test_rollback_shows_in_the_status(self, run: Run, tmp_path: Path) -> None:
        """For people and for programs."""
        repository = Repository.init(tmp_path / "r")
        for _ in range(2):
            repository.publish(files=FILES, aggregator_key="a" * 64, guarantee={"epsilon": 2.0})
        code, out, err = run("rollback", "--dir", tmp_path / "r", "--to", 1)
        assert (code, err) == (DONE, "")
        assert "release 3 has the files of release 1" in out
        code, out, _ = run("status", "--dir", tmp_path / "r", "--json")
        state = json.loads(out)
        assert (code, state["release"], state["releases"]) == (DONE, 3, [1, 2, 3])
        assert state["guarantee"] == {"epsilon": 2.0}
        code, out, _ = run("status", "--dir", tmp_path / "r")
        assert "1, 2, 3" in out

    def test_status_of_an_expired_repository_is_unhealthy(self, run: Run, tmp_path: Path) -> None:
        """Devices refuse it: a program can tell by the code."""
        Repository.init(tmp_path / "r", now_s=lambda: 1_700_000_000.0)
        code, out, _ = run("status", "--dir", tmp_path / "r")
        assert code == UNHEALTHY
        assert "EXPIRED" in out

    @pytest.mark.parametrize(
        "words",
        [
            ["status", "--dir", "{missing}"],
            ["rollback", "--dir", "{missing}", "--to", "1"],
            ["rollback", "--dir", "{made}", "--to", "7"],
            ["rollback", "--dir", "{made}", "--to", "seven"],
            ["rollback", "--dir", "{made}"],
            ["run", "--dir", "{missing}"],
            ["run", "--dir", "{made}", "--port", "99999"],
            ["run", "--dir", "{made}", "--port", "http"],
            ["run", "--dir", "{made}", "--tls-cert", "cert.pem"],
            ["run", "--dir", "{made}", "--port", "0", "--tls-cert", "a", "--tls-key", "b"],
            ["run", "--dir", "{made}", "--host", "192.0.2.1"],
            ["status"],
            ["dance"],
            [],
        ],
    )
    def test_every_mistake_is_one_clear_line(
        self, run: Run, tmp_path: Path, words: list[str]
    ) -> None:
        """And exit code 2, without a traceback."""
        Repository.init(tmp_path / "made")
        places = {"missing": tmp_path / "missing", "made": tmp_path / "made"}
        assert_one_clear_line(*run(*(word.format(**places) for word in words)))

    def test_taken_port_is_one_clear_line(self, run: Run, tmp_path: Path) -> None:
        """With the cure."""
        Repository.init(tmp_path / "r")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            result = run("run", "--dir", tmp_path / "r", "--port", taken.getsockname()[1])
        assert_one_clear_line(*result)
        assert "--port" in result[2]


class TestHelp:
    """``--help`` teaches."""

    @pytest.mark.parametrize("words", [[], ["init"], ["run"], ["status"], ["rollback"]])
    def test_help_shows_examples(self, run: Run, words: list[str]) -> None:
        """Of every command."""
        code, out, err = run(*words, "--help")
        assert (code, err) == (DONE, "")
        assert "homebody server rollback --dir releases --to 3" in out


def start(*words: object) -> subprocess.Popen[str]:
    """Run ``homebody server run`` as a process."""
    program = "import sys; from aggregator.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", program, "server", "run", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def health(url: str, certificate: Path | None = None) -> dict[str, object]:
    """Ask a server how it is."""
    context = None if certificate is None else ssl.create_default_context(cafile=certificate)
    with urllib.request.urlopen(f"{url}/health", timeout=20, context=context) as answer:  # noqa: S310
        state: dict[str, object] = json.load(answer)
    return state


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "cert.pem", folder / "key.pem"


class TestRun:
    """``run``, as a process."""

    def test_server_says_where_it_listens_and_stops_on_interrupt(self, tmp_path: Path) -> None:
        """Ready when the line is printed; Ctrl-C is not an error."""
        Repository.init(tmp_path / "r").publish(files=FILES, aggregator_key="a" * 64)
        process = start("--dir", tmp_path / "r", "--port", 0)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving release 1 on http://127.0.0.1:")
        assert health(line.split()[4])["release"] == 1
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (DONE, "stopped\n", "")

    def test_server_speaks_tls_with_the_given_certificate(self, tmp_path: Path) -> None:
        """A client that trusts the certificate gets through."""
        Repository.init(tmp_path / "r")
        certificate, key = write_certificate(tmp_path)
        words = ("--dir", tmp_path / "r", "--port", 0)
        process = start(*words, "--tls-cert", certificate, "--tls-key", key)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving no release yet on https://127.0.0.1:")
        assert health(line.split()[5], certificate)["status"] == "ok"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == DONE
