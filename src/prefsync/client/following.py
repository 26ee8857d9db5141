"""How a client follows changes: an event stream, long polls where none gets through, and always from where it was."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from prefsync.client import answers
from prefsync.client.core import RETRIED, authorized
from prefsync.client.errors import UnexpectedAnswerError
from prefsync.client.messages import AskToken, Cut, Failure, Open, Read, Send, Tell, Wait
from prefsync.client.retrying import Backoff
from prefsync.client.sse import EventParser, EventTooLargeError
from prefsync.client.values import Change, Reset

if TYPE_CHECKING:
    from prefsync.client.core import ClientCore
    from prefsync.client.messages import Request, Steps

__all__ = ["Following"]

logger = logging.getLogger("prefsync.client")

# A stream that ends before its first byte may be a server that goes down; twice in a row it is something in between.
_STILLBORN: Final = 2

_PAGE: Final = 100

# No schema has it, so that the first answer is a reset (protocol.md section 2, "Changes").
_NO_TAG: Final = ""


class Following:
    """One watch of one client.

    Args:
        core: The client's rules.
        since: The revision that the watcher has; ``None`` to begin with a reset.
        schema: The schema tag that goes with it, if the watcher knows it.
        until: When to end, in seconds of the core's clock.
    """

    def __init__(self, core: ClientCore, since: int | None, schema: str | None, until: float) -> None:
        self._core = core
        self._timing = core.timing
        self._position = since
        self._schema = schema
        self._until = until
        self._token = ""
        self._rejected: str | None = None
        self._is_renewed = False
        self._rest = Backoff(1.0, core.timing.most_rest, core.random)
        self._stream_at = float("-inf")
        self._probe = core.timing.probe
        self._stillborn = 0
        self._is_lost = False
        self._breaks_at: int | None = None

    def steps(self) -> Steps[None]:
        """Yield the steps of the watch, ``Tell`` among them for each event; ends when its time is up.

        Raises:
            RefusedError: The server will not have this client: a bad token, a missing scope.
            UnexpectedAnswerError: There is no prefsync server.
        """
        # Changes do not say which schema they are of, and a later deploy must not go unnoticed.
        while self._position is not None and self._schema is None and self._is_time():
            yield from self._poll(0.0)
        while self._is_time():
            if self._core.now() >= self._stream_at:
                yield from self._stream()
            else:
                yield from self._poll(self._timing.poll)

    def _is_time(self) -> bool:
        return self._core.now() < self._until

    def _limit(self, seconds: float) -> float:
        return max(0.0, min(seconds, self._until - self._core.now()))

    def _pause(self, at_least: float = 0.0) -> Steps[None]:
        yield Wait(self._limit(min(at_least, self._timing.most_probe) + self._rest.pause()))

    def _authorized(self, request: Request) -> Steps[Request]:
        """Ask for the token; a watcher that was interrupted while it was asked is asked again."""
        while True:
            token = yield AskToken(self._rejected, self._limit(self._timing.attempt))
            if isinstance(token, str):
                break
        self._token = token
        return authorized(request, token)

    # --- Long polls -------------------------------------------------------------------------------------------

    def _poll(self, wait: float) -> Steps[None]:
        wait = round(self._limit(wait), 3)
        query: dict[str, str | int | float] = {"since": self._position or 0, "wait": wait, "limit": _PAGE}
        if self._position is None or self._is_lost:
            query["schema"] = _NO_TAG
        elif self._schema is not None:
            query["schema"] = self._schema
        request = yield from self._authorized(self._core.request("GET", "/changes", query=urlencode(query)))
        started = self._core.now()
        answer = yield Send(request, self._limit(wait + self._timing.attempt))
        if isinstance(answer, Failure):
            yield from self._failed(answer)
        elif answer.status == HTTPStatus.UNAUTHORIZED and not self._is_renewed:
            self._is_renewed, self._rejected = True, self._token
        elif answer.status in RETRIED:
            yield from self._pause(answers.delay_of(answer) or 0.0)
        else:
            page = answers.page_of(answer)
            self._is_renewed, self._rejected = False, None
            has_news = yield from self._take_page(page)
            if has_news or wait == 0 or self._core.now() - started > wait / 2:
                self._rest.reset()
            else:
                yield from self._pause()  # something in between does not let requests wait

    def _take_page(self, page: answers.Page) -> Steps[bool]:
        """Tell what is in a page, and return whether there was anything."""
        if page.reset is not None:
            yield from self._take(page.reset)
            return True
        self._schema = page.schema
        for change in page.changes:
            if not (yield from self._take(change)):
                break
        return bool(page.changes)

    # --- Event streams ----------------------------------------------------------------------------------------

    def _stream(self) -> Steps[None]:
        query = urlencode({"schema": self._schema}) if self._schema is not None and not self._is_lost else ""
        request = self._core.request("GET", "/events", query=query)
        request = request.with_headers(Accept="text/event-stream", Accept_Encoding="identity")
        if self._position is not None and not self._is_lost:
            request = request.with_headers(Last_Event_ID=str(self._position))
        request = yield from self._authorized(request)
        answer = yield Open(request, self._limit(self._timing.first_byte))
        if isinstance(answer, Failure):
            if answer.is_silence:
                yield from self._fall_back(answer.what)
            else:
                yield from self._failed(answer)
        elif answer.is_open:
            yield from self._listen()
        elif answer.status == HTTPStatus.UNAUTHORIZED and not self._is_renewed:
            self._is_renewed, self._rejected = True, self._token
        elif answer.status in RETRIED and answer.status != HTTPStatus.SERVICE_UNAVAILABLE:
            yield from self._pause(answers.delay_of(answer) or 0.0)
        else:
            # Streams may be refused where requests are not (503: there are too many); a long poll will tell.
            yield from self._fall_back(f"status {answer.status}")

    def _listen(self) -> Steps[None]:
        parser = EventParser()
        started = self._core.now()
        is_heard = False
        data: bytes | Failure = b""
        while self._is_time():
            data = yield Read(self._limit(self._timing.silence if is_heard else self._timing.first_byte))
            if isinstance(data, Failure) or not data:
                break
            if not is_heard:
                is_heard = True
                self._is_renewed, self._rejected = False, None
                self._stillborn, self._probe = 0, self._timing.probe
            try:
                events = parser.feed(data)
            except EventTooLargeError as error:
                raise UnexpectedAnswerError(str(error), HTTPStatus.OK, "text/event-stream") from None
            for event in map(answers.event_of, events):
                if isinstance(event, str):
                    yield from self._end(event, started, parser.retry)
                    return
                if event is not None and not (yield from self._take(event)):
                    yield from self._end("break", started, parser.retry)
                    return
        what = data.what if isinstance(data, Failure) else "it was closed"
        if is_heard:
            yield from self._end(what, started, parser.retry)
            return
        self._stillborn += 1
        if (isinstance(data, Failure) and data.is_silence) or self._stillborn >= _STILLBORN:
            yield from self._fall_back(what)
        else:
            yield from self._end(what, started, None)

    def _end(self, why: str, started: float, retry: int | None) -> Steps[None]:
        """Leave a stream that worked, and wait before the next one."""
        logger.info("the event stream ended (%s); resuming after revision %s", why, self._position)
        yield Cut()
        if not self._is_time():
            return
        if self._core.now() - started >= self._timing.lived:
            self._rest.reset()
        if retry is not None:
            self._rest.base = min(retry / 1000, self._timing.most_rest)
        if why == "token-expired":
            self._rejected = self._token
        if why not in {"token-expired", "break"} or not self._rest.is_fresh:
            yield from self._pause()
        else:
            self._rest.pause()  # counted, so that the next one waits

    def _fall_back(self, why: str) -> Steps[None]:
        yield Cut()
        if not self._is_time():
            return
        logger.warning("no event stream gets through (%s): long polls for %.0f s", why, self._probe)
        self._stream_at = self._core.now() + self._probe
        self._probe = min(2 * self._probe, self._timing.most_probe)

    # --- Both -------------------------------------------------------------------------------------------------

    def _failed(self, failure: Failure) -> Steps[None]:
        logger.info("the server cannot be reached (%s)", failure.what)
        yield Cut()
        yield from self._pause()

    def _take(self, event: Change | Reset) -> Steps[bool]:
        """Tell an event if it is news; ``False`` where something was missed, and the watch has to join again."""
        if isinstance(event, Reset):
            is_news = (event.revision, event.schema) != (self._position, self._schema)
            self._position, self._schema, self._is_lost = event.revision, event.schema, False
        else:
            is_news = event.revision > (self._position or 0)
            if is_news and event.previous != self._position:
                # Joining after the same revision may bring the same break: then only a reset helps.
                self._is_lost = self._position is None or self._breaks_at == self._position
                self._breaks_at = self._position
                return False
            if is_news:
                self._position = event.revision
        if is_news:
            self._core.seen.note(event.revision)
            yield Tell(event)
        return True
