"""A ``flower-superlink`` process: started, waited for, and always stopped.

Security, in three sentences. Devices speak to ``/v1/fleet/*`` over TLS, each call signed with a
registered node key. The SuperLink's ``/v1/control/*`` and ``/v1/runtime/*`` ask for no credentials
and share the port, so that port must never face the network. Bind it to 127.0.0.1 (the default)
and put a proxy in front that forwards the fleet's paths alone, for example with Caddy::

    fleet.example.org {
        @fleet path /v1/fleet/*
        handle @fleet {
            request_body {
                max_size 8MB
            }
            reverse_proxy https://127.0.0.1:9092 {
                transport http {
                    tls_trust_pool file /etc/homebody/root.pem
                }
            }
        }
        respond 404
    }

`aggregator.superlink.gate` is the same allow-list in Python, for one machine without Caddy.

Telemetry, update checks and the installation of dependencies are off; Flower's files go to a
private folder, its state to one SQLite file that survives a kill.
"""

from __future__ import annotations

import datetime as dt
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from aggregator.errors import PortInUseError, SuperLinkError
from aggregator.superlink.certificates import Certificates, make_certificates

_STOP_TIMEOUT_S: Final = 15.0
_POLL_S: Final = 0.1


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a SuperLink answers.

    Attributes:
        host: Its address.
        port: Its port.
        root_certificates_pem: The authority that signed its certificate.
        process_id: The process to watch.
    """

    host: str
    port: int
    root_certificates_pem: bytes
    process_id: int

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.port}"


@contextmanager
def running_superlink(
    directory: Path,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    certificates: Certificates | None = None,
    start_timeout_s: float = 90.0,
) -> Iterator[Endpoint]:
    """Run a SuperLink for as long as the ``with`` block.

    Args:
        directory: Its database, log, certificates and Flower's own files; made where missing.
        host: The address to bind; keep it local, and put a proxy in front (see the module).
        port: The port to bind; by default a free one.
        certificates: By default a private authority's, made here.
        start_timeout_s: How long to wait for its health, in seconds.

    Yields:
        Where it answers.

    Raises:
        PortInUseError: another program has the port.
        SuperLinkError: it did not become healthy.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    chosen = claim_port(host, port)
    files = certificates or make_certificates(directory, host=host, now=dt.datetime.now(dt.UTC))
    with (directory / "superlink.log").open("ab") as log:
        process = subprocess.Popen(
            _command(directory, host, chosen, files),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(directory),
            start_new_session=True,
        )
    try:
        endpoint = Endpoint(
            host=host,
            port=chosen,
            root_certificates_pem=files.root.read_bytes(),
            process_id=process.pid,
        )
        _wait_until_healthy(endpoint, process, directory / "superlink.log", start_timeout_s)
        yield endpoint
    finally:
        _stop(process)


def claim_port(host: str, port: int | None) -> int:
    """Return a port that is free now, or raise `PortInUseError`."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        # As the server does: a port in TIME_WAIT is free, one that somebody listens on is not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port or 0))
        except OSError as error:
            raise PortInUseError(
                f"port {port} on {host} is in use; choose another one, or stop what listens there"
            ) from error
        return int(probe.getsockname()[1])


def _command(directory: Path, host: str, port: int, files: Certificates) -> list[str]:
    return [
        sys.executable,
        "-m",
        "aggregator.superlink.child",
        *("--host", host),
        *("--port", str(port)),
        *("--isolation", "process"),
        *("--ssl-ca-certfile", str(files.root)),
        *("--ssl-certfile", str(files.server)),
        *("--ssl-keyfile", str(files.key)),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
        *("--database", str(directory / "superlink.db")),
    ]


def _environment(directory: Path) -> Mapping[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLWR_")}
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [inherited.get("PYTHONPATH")])]
    return {
        **inherited,
        "PYTHONPATH": os.pathsep.join(paths),
        "FLWR_HOME": str(directory / "flwr-home"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
    }


def _wait_until_healthy(
    endpoint: Endpoint, process: subprocess.Popen[bytes], log: Path, timeout_s: float
) -> None:
    ends_s = time.monotonic() + timeout_s
    context = ssl.create_default_context(cadata=endpoint.root_certificates_pem.decode("ascii"))
    with httpx.Client(verify=context, timeout=5.0) as client:
        while time.monotonic() < ends_s:
            if process.poll() is not None:
                raise _not_started(f"it ended with code {process.returncode}", endpoint, log)
            try:
                if client.get(f"https://{endpoint.address}/health").is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(_POLL_S)
    raise _not_started(f"it was not healthy within {timeout_s:.0f} s", endpoint, log)


def _not_started(reason: str, endpoint: Endpoint, log: Path) -> PortInUseError | SuperLinkError:
    if b"address already in use" in log.read_bytes()[-20_000:]:
        return PortInUseError(
            f"port {endpoint.port} on {endpoint.host} was taken meanwhile; choose another one"
        )
    return SuperLinkError(f"the SuperLink did not start: {reason}; its log is {log}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
