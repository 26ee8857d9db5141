"""What a client does, without doing it: each method returns the steps of a call (see ``messages``)."""

from __future__ import annotations

import logging
import re
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from random import Random
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

from prefsync.client import answers
from prefsync.client.errors import UnreachableError
from prefsync.client.messages import Answer, AskToken, Failure, Request, Send, Steps, Wait
from prefsync.client.retrying import Backoff
from prefsync.client.targets import Target, body_of
from prefsync.client.values import State, Timing
from prefsync.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefsync.models import PreferencesModel

__all__ = ["RETRIED", "ClientCore", "checked_token"]

logger = logging.getLogger("prefsync.client")

# Those that say "later", and what gateways say of a server that they cannot reach: just then it restarts.
RETRIED: Final = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)

_ORIGIN: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KEY: Final = re.compile(r"[\x21-\x7e]{1,128}")
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,8192}")


def checked_url(url: str) -> str:
    """Return the URL of a mount, without a slash at its end.

    Raises:
        ConfigurationError: It cannot be one.
    """
    if not _is_address(url):
        raise ConfigurationError(
            "the URL must be that of the preferences: https://app.example.com/preferences, say"
        )
    if "@" in urlsplit(url).netloc or "?" in url or "#" in url:
        raise ConfigurationError(
            "the URL must have no user, query or fragment; the token has its own argument"
        )
    return url.rstrip("/")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_host = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port, or an address in brackets, that cannot be one
        return False
    return has_host and url.isprintable() and " " not in url


def checked_token(token: object) -> str:
    """Return a token that can stand in a header; an error does not show it.

    Raises:
        ConfigurationError: It is none.
    """
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        kind = "a text with other characters" if isinstance(token, str) else f"a {type(token).__name__}"
        raise ConfigurationError(f"a token is 1 to 8192 visible ASCII characters, and this is {kind}")
    return token


class Seen:
    """The newest revision that a client has seen, for reads that are to see its writes."""

    def __init__(self) -> None:
        self.revision = 0
        self._lock = threading.Lock()

    def note(self, revision: int) -> None:
        """Remember a revision if it is newer."""
        with self._lock:
            self.revision = max(self.revision, revision)

    def forget(self, revision: int) -> None:
        """Forget a revision that the server does not know any more, unless there is a newer one by now."""
        with self._lock:
            if self.revision == revision:
                self.revision = 0

    def renew_lock(self) -> None:
        """Have a lock that nobody holds: after a fork, whoever held it is gone."""
        self._lock = threading.Lock()


@dataclass(frozen=True)
class ClientCore:
    """The rules of one client.

    Args:
        url: Of the mount.
        name: The name that the client gives itself; ``None`` for none.
        time_limit: Seconds that a call may take in all.
        timing: How long to wait for what.
        now: A clock that never goes back, in seconds.
        random: Where chance comes from.
    """

    url: str
    name: str | None = None
    time_limit: float = 30.0
    timing: Timing = field(default_factory=Timing)
    now: Callable[[], float] = time.monotonic
    random: Random = field(default_factory=Random)
    seen: Seen = field(default_factory=Seen, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", checked_url(self.url))
        if self.name is not None and not _ORIGIN.fullmatch(self.name):
            raise ConfigurationError("a client's name is 1 to 64 of A-Z a-z 0-9 . _ -")
        _positive(self.time_limit)

    def read(
        self, namespace: str | PreferencesModel | None, time_limit: float | None = None
    ) -> Steps[State[Any]]:
        """Read the document or a namespace, no older than what this client has seen."""
        target, until = Target.of(namespace), self.until(time_limit)
        asked = self.seen.revision
        request = self.request("GET", target.path)
        answer = yield from self.exchange(request.with_headers(Prefsync_Min_Revision=str(asked)), until)
        if answer.status == HTTPStatus.PRECONDITION_FAILED and asked:
            # Only a database that was put back can have lost it, and then waiting would not help.
            logger.warning(
                "the server has nothing as new as revision %d, which it has sent: a restored backup?", asked
            )
            self.seen.forget(asked)
            answer = yield from self.exchange(request, until)
        return self._state(answer, target)

    def schema(self, time_limit: float | None = None) -> Steps[dict[str, Any]]:
        """Read the JSON Schema."""
        answer = yield from self.exchange(self.request("GET", "/schema"), self.until(time_limit))
        return answers.schema_of(answer)

    def write(
        self,
        method: str,
        namespace: str | PreferencesModel | None,
        values: Any = None,
        *,
        if_match: str | State[Any] | None = None,
        idempotency_key: str | None = None,
        time_limit: float | None = None,
    ) -> Steps[State[Any]]:
        """Replace, patch or reset the document or a namespace."""
        target, until = Target.of(namespace), self.until(time_limit)
        key = str(uuid4()) if idempotency_key is None else idempotency_key
        if not _KEY.fullmatch(key):
            raise ValueError("an idempotency key is 1 to 128 visible ASCII characters")
        body = None if method == "DELETE" else body_of(values)
        request = self.request(method, target.path, body=body).with_headers(Idempotency_Key=key)
        if if_match is not None:
            request = request.with_headers(
                If_Match=if_match.etag if isinstance(if_match, State) else if_match
            )
        return self._state((yield from self.exchange(request, until)), target)

    def request(self, method: str, path: str, *, query: str = "", body: bytes | None = None) -> Request:
        """Return a request as this client sends them, still without a token."""
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self.name is not None:
            headers["Prefsync-Client"] = self.name
        return Request(method, path, headers, query, body)

    def until(self, time_limit: float | None) -> float:
        """Return when a call that starts now has to be over."""
        return self.now() + _positive(self.time_limit if time_limit is None else time_limit)

    def exchange(self, request: Request, until: float) -> Steps[Answer]:
        """Send a request until it is answered for good.

        Raises:
            RefusedError: The server still asks for patience, and there is no time.
            UnreachableError: There was no answer in time.
        """
        backoff = Backoff(self.timing.backoff, self.timing.most_backoff, self.random)
        token: str = yield AskToken(None, until - self.now())
        is_renewed = False
        reason: Answer | Failure | None = None
        while True:
            limit = min(self.timing.attempt, max(0.0, until - self.now()))
            answer = yield Send(authorized(request, token), limit)
            delay = 0.0
            if isinstance(answer, Answer):
                if answer.status == HTTPStatus.UNAUTHORIZED and not is_renewed:
                    is_renewed = True
                    rejected, token = token, (yield AskToken(token, max(0.0, until - self.now())))
                    if token != rejected:
                        continue
                if answer.status not in RETRIED:
                    return answer
                delay = answers.delay_of(answer) or 0.0
            delay += backoff.pause()
            is_silence = isinstance(answer, Failure) and answer.is_silence
            if self.now() + delay >= until:
                raise _given_up(request, answer, reason if is_silence else None)
            reason = reason if is_silence else answer
            logger.info(
                "%s %s: %s; again in %.1f s", request.method, request.path or "/", _what(answer), delay
            )
            yield Wait(delay)

    def _state(self, answer: Answer, target: Target) -> State[Any]:
        state = answers.namespace(answer, target) if target.path else answers.document(answer)
        self.seen.note(state.revision)
        return state


def authorized(request: Request, token: str) -> Request:
    """Return the request with a token."""
    return request.with_headers(Authorization=f"Bearer {token}")


def _given_up(request: Request, answer: Answer | Failure, reason: Answer | Failure | None) -> Exception:
    """Return the error of the last answer; that of silence tells the reason of an earlier failure as well."""
    if isinstance(answer, Answer):
        return answers.refusal(answer)
    what = answer.what if reason is None else f"{answer.what}, after {_what(reason)}"
    error = UnreachableError(
        f"no answer within the time limit: {what}", request.headers.get("Idempotency-Key")
    )
    error.__cause__ = reason.error if isinstance(reason, Failure) else answer.error
    return error


def _what(answer: Answer | Failure) -> str:
    return answer.what if isinstance(answer, Failure) else f"status {answer.status}"


def _positive(seconds: float) -> float:
    if not seconds > 0:
        raise ValueError("a time limit is more than 0 seconds")
    return seconds
