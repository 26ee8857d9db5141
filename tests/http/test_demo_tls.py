"""The demo over HTTPS: a certificate for the occasion, which is good for it alone and trusted by nobody unasked."""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.http.conftest import EXAMPLES
from tests.servers import HOST, ServerProcess

pytestmark = pytest.mark.once

DEMO = [sys.executable, str(EXAMPLES / "demo.py")]


def blind() -> ssl.SSLContext:
    """Return what reaches a server whose certificate is not known yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def shake_hands(port: int, context: ssl.SSLContext, name: str) -> tuple[str | None, bytes]:
    """Return the version that was agreed on, and the server's certificate.

    Raises:
        ssl.SSLError: There was no agreement.
    """
    with socket.create_connection((HOST, port), 10) as raw:
        with context.wrap_socket(raw, server_hostname=name) as encrypted:
            return encrypted.version(), encrypted.getpeercert(binary_form=True) or b""


@pytest.mark.parametrize("app", [(), ("--flask",)], ids=["fastapi", "flask"])
def test_a_certificate_for_the_occasion(app: tuple[str, ...], tmp_path: Path) -> None:
    """It is for this machine's names, shown with its fingerprint, unknown to everybody else, and gone at the end."""
    command = [*DEMO, *app, "--tls", "--port", "{port}", "--database", str(tmp_path / "demo.sqlite3")]
    with ServerProcess(command, {"TMPDIR": str(tmp_path)}, tls=blind()) as server:
        greeting = server.output
        assert greeting.strip().splitlines()[0] == f"prefsync demo: {server.url}/"
        (file,) = re.findall(r"^(/.+certificate\.pem)$", greeting, re.MULTILINE)
        (fingerprint,) = re.findall(r"^((?:[0-9A-F]{2}:){31}[0-9A-F]{2})$", greeting, re.MULTILINE)
        assert f"curl -s --cacert {file} {server.url}/preferences" in greeting
        key = Path(file).parent / "key.pem"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600

        version, certificate = shake_hands(server.port, blind(), HOST)
        assert version == "TLSv1.3"
        assert hashlib.sha256(certificate).hexdigest().upper() == fingerprint.replace(":", "")
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(server.port, ssl.create_default_context(), HOST)
        trust = ssl.create_default_context(cafile=file)
        for name in (HOST, "localhost"):
            shake_hands(server.port, trust, name)
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(server.port, trust, "app.example")
        old = blind()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            shake_hands(server.port, old, HOST)
        with httpx2.Client(base_url=server.url, verify=trust, trust_env=False) as client:
            assert "<h1>" in client.get("/").text
            signed_in = client.post("/demo/token", json={"user": "alice"}).json()
            header = {"Authorization": f"Bearer {signed_in['token']}"}
            assert client.get("/preferences", headers=header).status_code == 200
        server.terminate()
        assert not Path(file).parent.exists()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--tls", "--tls-cert", "x.pem"], 2, "choose"),
        (["--tls-key", "x.pem"], 2, "--tls-key needs --tls-cert"),
        (["--tls-cert", "missing.pem"], 1, "missing.pem and missing.pem cannot be used"),
        (["--tls-cert", __file__], 1, "cannot be used"),
    ],
)
def test_what_cannot_be_used_is_said(options: list[str], code: int, said: str, tmp_path: Path) -> None:
    """In a line, and nothing is served, least of all without encryption."""
    command = [*DEMO, "--port", "0", "--database", str(tmp_path / "demo.sqlite3"), *options]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert found.returncode == code
    assert said in found.stdout + found.stderr
    assert "Traceback" not in found.stderr
