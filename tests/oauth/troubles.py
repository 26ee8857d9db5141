"""What can be wrong with an answer of an issuer's: none of it is an answer."""

from __future__ import annotations

import gzip
import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from prefsync.adapters.oauth.http import IssuerHttp
from prefsync.testing.samples import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 64 * 1024
"""The largest answer that tests of troubles let a client read."""


def impatient(trouble: str) -> IssuerHttp:
    """Return what asks an issuer that is in trouble: a busy machine must not look like one that is too slow."""
    return IssuerHttp(time_limit=0.5 if "slow" in trouble else PATIENCE, most_bytes=SIZE)


def _status(status: int) -> Callable[[Any], None]:
    return lambda to: to.reply(status, b'{"keys":[],"active":true}')


def _redirect(where: str) -> Callable[[Any], None]:
    return lambda to: to.reply(302, b"{}", Location=where)


def _body(body: bytes, **headers: str) -> Callable[[Any], None]:
    return lambda to: to.reply(200, body, **headers)


def _drip(to: Any) -> None:
    """Send a byte now and then: never nothing for long, and never done."""
    to.send_response(200)
    to.send_header("Content-Length", "1000")
    to.end_headers()
    with suppress(OSError):
        for _ in range(1_000):
            to.wfile.write(b" ")
            time.sleep(0.02)


def _drip_headers(to: Any) -> None:
    with suppress(OSError):
        to.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(90):
            to.wfile.write(b"X-%d: 1\r\n" % number)
            time.sleep(0.02)


def _endless(to: Any) -> None:
    to.send_response(200)
    to.end_headers()
    with suppress(OSError):
        while True:
            to.wfile.write(b" " * SIZE)


def _hang_up(to: Any) -> None:
    to.close_connection = True


def _raw(text: bytes) -> Callable[[Any], None]:
    def answer(to: Any) -> None:
        to.wfile.write(text)
        to.close_connection = True

    return answer


_GOOD = json.dumps({"keys": [], "active": True}).encode()

TROUBLES: dict[str, Callable[[Any], None]] = {
    **{f"status {status}": _status(status) for status in (201, 204, 400, 401, 403, 429, 500, 502, 503)},
    "redirect to itself": _redirect("/keys"),
    "redirect to another host": _redirect("https://evil.example/keys"),
    "redirect to a file": _redirect("file:///etc/passwd"),
    "redirect to nowhere": _redirect(""),
    "empty": _body(b""),
    "no JSON": _body(b"<html>"),
    "a list": _body(b"[]"),
    "null": _body(b"null"),
    "a string": _body(b'"keys"'),
    "broken JSON": _body(_GOOD[:-1]),
    "NaN": _body(b'{"keys":[],"active":NaN}'),
    "a member twice": _body(b'{"keys":[],"keys":[],"active":true}'),
    "UTF-16": _body(_GOOD.decode().encode("utf-16")),
    "a BOM": _body(b"\xef\xbb\xbf" + _GOOD),
    "deep": _body(b'{"keys":' + b"[" * 10_000 + b"]" * 10_000 + b"}"),
    "too large": _body(b" " * SIZE + _GOOD),
    "compressed": _body(gzip.compress(_GOOD), Content_Encoding="gzip"),
    "cut short": _body(_GOOD, Content_Length=str(len(_GOOD) + 10)),
    "slow body": _drip,
    "slow headers": _drip_headers,
    "without an end": _endless,
    "hung up": _hang_up,
    "not HTTP": _raw(b"220 mail.example ESMTP\r\n"),
    "another HTTP": _raw(b"HTTP/9.9 200 OK\r\n\r\n{}"),
    "a header too long": _raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"),
    "too many headers": _raw(b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 1_000 + b"\r\n"),
    "a length that is no number": _raw(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n<"),
    "broken chunks": _raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"),
}
