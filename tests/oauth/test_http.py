"""Asking an issuer: bounded in time and size, without redirects, and on the event loop not at all."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from prefsync.adapters.oauth.flights import Flights
from prefsync.adapters.oauth.http import IssuerError, IssuerHttp
from prefsync.errors import UnavailableError
from prefsync.testing.samples import PATIENCE
from tests.oauth.issuer import KEYS, Issuer
from tests.oauth.troubles import SIZE, TROUBLES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


def exchanges() -> int:
    """Return how many threads are busy with an exchange."""
    busy = 0
    for frame in sys._current_frames().values():
        at: FrameType | None = frame
        while at is not None and (at.f_code.co_name, Path(at.f_code.co_filename).name) != ("run", "http.py"):
            at = at.f_back
        busy += at is not None
    return busy


@pytest.mark.parametrize("trouble", ["slow body", "slow headers"])
async def test_a_slow_answer_is_given_up(issuer: Issuer, trouble: str) -> None:
    """A server that sends a byte now and then gets no more time than one that sends none; its thread ends too."""
    issuer.answers[KEYS] = TROUBLES[trouble]
    began = time.monotonic()
    with pytest.raises(IssuerError, match="issuer is out of reach"):
        await IssuerHttp(time_limit=0.2).get(issuer.url + KEYS)
    assert time.monotonic() - began < PATIENCE
    with anyio.fail_after(1):  # a tenth of what the server would go on for
        while exchanges():
            await anyio.sleep(0.01)


@contextmanager
def listening(answer: bytes | None) -> Iterator[int]:
    """Listen on a port: say something to the first who connects, and no more, or accept nobody."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(answer or b"")
                held.wait(20)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        held.set()
        thread.join()


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x03\x40\x00", b"HTTP/1.1 200 OK\r\n\r\n{}"])
async def test_a_handshake_without_an_end_is_given_up(said: bytes) -> None:
    """TLS that never comes, stops in the middle, or is none at all."""
    with listening(said) as port:
        with anyio.fail_after(PATIENCE), pytest.raises(IssuerError):
            await IssuerHttp(time_limit=0.2).get(f"https://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    ("names", "is_trusted", "works"),
    [(["127.0.0.1"], True, True), (["127.0.0.1"], False, False), (["issuer.example"], True, False)],
    ids=["good", "by nobody we trust", "of another host"],
)
async def test_certificates_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], *, is_trusted: bool, works: bool
) -> None:
    """Nobody who just has the address speaks for an issuer."""
    chain = certificate(tmp_path, names)
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(chain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    with Issuer(context) as issuer:
        http = IssuerHttp(time_limit=PATIENCE)
        if works:
            assert (await http.get(issuer.url + KEYS)).keys() == {"keys"}
            return
        with pytest.raises(IssuerError) as caught:
            await http.get(issuer.url + KEYS)
        assert "CERTIFICATE_VERIFY_FAILED" in caught.value.reason
        assert not issuer.asked


def certificate(folder: Path, names: list[str]) -> Path:
    """Make a certificate that vouches for itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    hosts = [x509.IPAddress(ip_address(host)) if host[0].isdigit() else x509.DNSName(host) for host in names]
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "chain.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + made.public_bytes(Encoding.PEM)
    )
    return file


@pytest.mark.parametrize(
    "url", ["http://issuer.example/", "file:///etc/passwd", "", "https://", "http://127.0.0.1:x/"]
)
async def test_places_that_are_not_asked(url: str) -> None:
    """Nothing goes out in the clear, and no file is read, whoever names the URL."""
    with pytest.raises(IssuerError) as caught:
        await IssuerHttp().get(url)
    assert "is no place to ask" in caught.value.reason


async def test_a_proxy_is_used_for_distant_issuers_only(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A company's proxy is asked for a tunnel, so that it sees nothing; this machine is asked directly."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def refuse() -> None:
            connection, _ = server.accept()
            with connection:
                asked.append(connection.recv(65_536))
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        for name in ("no_proxy", "NO_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("https_proxy", f"http://user:p%40ss@127.0.0.1:{port}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        http = IssuerHttp(time_limit=5)
        assert (await http.get(issuer.url + KEYS)).keys() == {"keys"}
        with pytest.raises(IssuerError):
            await http.get("https://issuer.example/keys")
        thread.join()
    (request,) = asked
    assert request.startswith(b"CONNECT issuer.example:443 ")
    assert b"Proxy-Authorization: Basic dXNlcjpwQHNz\r\n" in request


async def test_a_query_is_kept(issuer: Issuer) -> None:
    """Some providers tell their tenants apart by one."""
    seen: list[str] = []
    issuer.answers["/q"] = lambda to: (seen.append(to.path), to.reply(200, b"{}"))
    assert await IssuerHttp().get(issuer.url + "/q?p=policy&x=1") == {}
    assert seen == ["/q?p=policy&x=1"]


async def test_few_threads_wait_for_an_issuer(issuer: Issuer) -> None:
    """However many questions there are, those beyond wait for their turn."""
    issuer.held.clear()
    http = IssuerHttp(time_limit=PATIENCE)
    waiting = [asyncio.create_task(http.get(issuer.url + KEYS)) for _ in range(60)]
    with anyio.fail_after(PATIENCE):
        while issuer.asked[KEYS] < 16:
            await anyio.sleep(0.01)
    await anyio.sleep(0.05)  # in which others would come
    assert issuer.asked[KEYS] == 16
    issuer.held.set()
    assert len(await asyncio.gather(*waiting)) == 60


async def test_an_answer_at_the_limit_is_read(issuer: Issuer) -> None:
    """The bound is inclusive."""
    issuer.answers[KEYS] = lambda to: to.reply(200, b"{}".ljust(SIZE))
    assert await IssuerHttp(most_bytes=SIZE).get(issuer.url + KEYS) == {}
    with pytest.raises(IssuerError):
        await IssuerHttp(most_bytes=SIZE - 1).get(issuer.url + KEYS)


# --- Flights ------------------------------------------------------------------------------------------------


async def test_an_error_reaches_all_who_wait() -> None:
    """And is no error of nobody's where all who waited have gone."""
    flights: Flights[None] = Flights()

    async def fail() -> None:
        await asyncio.sleep(0.01)
        raise UnavailableError("issuer")

    waiting = [asyncio.create_task(flights.share("key", fail)) for _ in range(5)]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [UnavailableError] * 5
    gone = asyncio.create_task(flights.share("key", fail))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert flights.is_under_way("key")
    await flights.aclose()
    assert not flights.is_under_way("key")
