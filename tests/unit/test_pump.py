"""Bytes are carried between an encrypted connection and a plain one, all of them, in order, and to the end."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import secrets
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from prefsync.wsgi import pump as pump_module
from prefsync.wsgi.pump import pump
from prefsync.wsgi.servers import drop_client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMIT = 20.0


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a server and a client of its need for TLS."""
    folder = tmp_path_factory.mktemp("tls")
    certificate = make_certificate(folder)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    return server, ssl.create_default_context(cafile=str(certificate))


def make_certificate(folder: Path) -> Path:
    """Write a certificate for 127.0.0.1, and its key, to a file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "prefsync test")])
    now = dt.datetime.now(dt.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "certificate.pem"
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return file


class Line:
    """A client, encrypted, and what the loop would have, plain, with a thread between them.

    Attributes:
        client: The encrypted end.
        inside: The plain end.
        thread: Carries bytes.
    """

    def __init__(self, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
        ours, theirs = socket.socketpair()
        encrypted: list[ssl.SSLSocket] = []
        shaking = threading.Thread(
            target=lambda: encrypted.append(contexts[0].wrap_socket(ours, server_side=True))
        )
        shaking.start()
        self.client = contexts[1].wrap_socket(theirs, server_hostname="127.0.0.1")
        shaking.join(LIMIT)
        self.encrypted = encrypted[0]
        self.inside, end = socket.socketpair()
        for each in (self.client, self.inside):
            each.settimeout(LIMIT)
        self.thread = threading.Thread(target=pump, args=(self.encrypted, end))
        self.thread.start()

    def close(self) -> None:
        """Close both ends; the thread ends with them."""
        self.client.close()
        self.inside.close()
        self.thread.join(LIMIT)
        assert not self.thread.is_alive()
        self.encrypted.close()  # as its server does, when the thread has given it back


@pytest.fixture
def line(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> Iterator[Line]:
    """A line."""
    line = Line(contexts)
    yield line
    line.close()


def received(connection: socket.socket, size: int) -> bytes:
    """Read so many bytes."""
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(65_536)
        assert piece, f"it ended after {len(data)} of {size} bytes"
        data += piece
    return bytes(data)


@pytest.mark.parametrize("size", [1, 1_000, 16_384, 70_000, 5_000_000])
def test_both_ways(line: Line, size: int) -> None:
    """Whatever is sent at one end comes out at the other, in both directions at once."""
    inward, outward = secrets.token_bytes(size), secrets.token_bytes(size)
    sender = threading.Thread(target=line.inside.sendall, args=(outward,))
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(received(line.inside, size)))
    sender.start()
    reader.start()
    line.client.sendall(inward)
    assert received(line.client, size) == outward
    reader.join(LIMIT)
    sender.join(LIMIT)
    assert found == [inward]


def test_the_client_ends(line: Line) -> None:
    """The plain end hears of it, after what was sent before."""
    line.client.sendall(b"last words")
    line.client.close()
    assert received(line.inside, 10) == b"last words"
    assert line.inside.recv(1) == b""
    line.thread.join(LIMIT)
    assert not line.thread.is_alive()


def test_the_loop_ends(line: Line) -> None:
    """The client gets all that was sent before, and the thread is free."""
    words = secrets.token_bytes(300_000)
    sender = threading.Thread(target=lambda: (line.inside.sendall(words), line.inside.close()))
    sender.start()
    assert received(line.client, len(words)) == words
    line.thread.join(LIMIT)
    assert not line.thread.is_alive()
    sender.join(LIMIT)


def test_a_client_that_takes_nothing(line: Line) -> None:
    """What waits for it is bounded, and ends when the loop gives the connection up."""
    line.inside.settimeout(0.5)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < 20_000_000:
            sent += line.inside.send(b"x" * 65_536)
    assert sent < 20_000_000
    drop_client({"werkzeug.socket": line.encrypted})
    line.thread.join(LIMIT)
    assert not line.thread.is_alive()


def test_the_server_closes_it(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that another thread has closed is one that has ended, not an error of this one's."""
    waits = threading.Event()
    wait = pump_module._wait

    def close_and_wait(*what: Any) -> None:
        line.encrypted.close()
        waits.set()
        wait(*what)

    monkeypatch.setattr(pump_module, "_wait", close_and_wait)
    line.client.sendall(b"x")  # wakes the thread
    assert waits.wait(LIMIT)
    line.thread.join(LIMIT)
    assert not line.thread.is_alive()
