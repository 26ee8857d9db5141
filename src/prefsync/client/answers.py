"""From answers to values, or to errors that say what came instead."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from prefsync.client.errors import ConflictError, RefusedError, UnexpectedAnswerError
from prefsync.client.values import Change, Reset, State
from prefsync.errors import FieldError, MalformedError
from prefsync.strictjson import parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefsync.client.messages import Answer
    from prefsync.client.sse import ServerSentEvent
    from prefsync.client.targets import Target

__all__ = ["Page", "delay_of", "document", "event_of", "namespace", "page_of", "refusal", "schema_of"]

_JSON: Final = ("application/json", "application/problem+json")


@dataclass(frozen=True, slots=True)
class Page:
    """A page of ``/changes``.

    Attributes:
        revision: Where to go on from.
        schema: The schema tag.
        has_more: There is another page.
        changes: Oldest first.
        reset: What replaces everything.
    """

    revision: int
    schema: str
    has_more: bool
    changes: tuple[Change, ...]
    reset: Reset | None


class _WrongFormError(ValueError):
    """A member is missing or of another type."""


def document(answer: Answer) -> State[dict[str, Any]]:
    """Read the whole document.

    Raises:
        RefusedError: It is a problem.
        UnexpectedAnswerError: It is something else.
    """
    body = _body(answer)
    try:
        values = _namespaces(_member(body, "values", dict))
        revision, schema = _revision(body, "revision"), _member(body, "schema", str)
    except _WrongFormError as error:
        raise _unexpected(answer, f"no document: {error}") from None
    return State(values, revision, _etag(answer), schema, _is_stale(answer))


def namespace(answer: Answer, target: Target) -> State[Any]:
    """Read one namespace, as the target's model if it has one.

    Raises:
        RefusedError: It is a problem.
        UnexpectedAnswerError: It is something else, or the model does not take it.
    """
    body = _body(answer)
    revision = answer.headers.get("prefsync-revision", "")
    if not (revision.isascii() and revision.isdigit()):
        raise _unexpected(answer, "JSON without the header Prefsync-Revision")
    try:
        values = target.typed(body)
    except ValueError as error:
        raise _unexpected(answer, f"values that the model does not take ({error})") from error
    return State(values, int(revision), _etag(answer), None, _is_stale(answer))


def schema_of(answer: Answer) -> dict[str, Any]:
    """Read the JSON Schema; raises as :func:`document` does."""
    return _body(answer)


def page_of(answer: Answer) -> Page:
    """Read a page of changes; raises as :func:`document` does."""
    body = _body(answer)
    try:
        revision, schema = _revision(body, "revision"), _member(body, "schema", str)
        reset = None
        if _member(body, "reset", bool):
            reset = Reset(revision, schema, _namespaces(_member(body, "values", dict)))
        changes = tuple(map(_change, _member(body, "changes", list)))
        return Page(revision, schema, _member(body, "has_more", bool), changes, reset)
    except _WrongFormError as error:
        raise _unexpected(answer, f"no page of changes: {error}") from None


def event_of(event: ServerSentEvent) -> Change | Reset | str | None:
    """Read an event of the stream: a change, a reset, or the reason of a farewell; ``None`` for unknown ones.

    Raises:
        UnexpectedAnswerError: Its data are not what its name says.
    """
    if event.name not in {"change", "reset", "bye"}:
        return None
    try:
        data = _object(parse(event.data.encode("utf-8", "replace")))
        match event.name:
            case "change":
                return _change(data)
            case "reset":
                values = _namespaces(_member(data, "values", dict))
                return Reset(_revision(data, "revision"), _member(data, "schema", str), values)
            case _:
                return str(_member(data, "reason", str))
    except (MalformedError, _WrongFormError) as error:
        message = f"the event stream sent an event {event.name!r} that cannot be read: {error}"
        raise UnexpectedAnswerError(message, HTTPStatus.OK, "text/event-stream") from None


def refusal(answer: Answer) -> RefusedError | UnexpectedAnswerError:
    """Return the error that an answer without success is."""
    if _content_type(answer) not in _JSON or _is_redirect(answer.status):
        return _unexpected(answer, None)
    try:
        body = _object(parse(answer.body))
        kind, title = _member(body, "type", str), _member(body, "title", str)
        detail = body.get("detail")
        errors = tuple(
            FieldError(*(_member(entry, name, str) for name in ("pointer", "code", "detail")))
            for entry in _member({"errors": [], **body}, "errors", list)
        )
    except (MalformedError, _WrongFormError):
        return _unexpected(answer, None)
    error = ConflictError if answer.status == HTTPStatus.PRECONDITION_FAILED else RefusedError
    words = detail if isinstance(detail, str) else ""
    return error(answer.status, kind, title, words, errors, delay_of(answer))


def delay_of(answer: Answer) -> float | None:
    """Return the seconds that ``Retry-After`` asks for (RFC 9110, section 10.2.3).

    A date counts from the answer's own ``Date``: the clock of this machine may be wrong.
    """
    value = answer.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        until, now = (parsedate_to_datetime(text) for text in (value, answer.headers.get("date", "")))
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError):
        return None


def _body(answer: Answer) -> dict[str, Any]:
    if answer.status != HTTPStatus.OK:
        raise refusal(answer)
    if _content_type(answer) not in _JSON:
        raise _unexpected(answer, None)
    try:
        body = parse(answer.body)
    except MalformedError as error:
        raise _unexpected(answer, f"broken JSON ({error})") from None
    if not isinstance(body, dict):
        raise _unexpected(answer, "JSON that is no object")
    return body


def _unexpected(answer: Answer, what: str | None) -> UnexpectedAnswerError:
    """Say what came, without showing a body that may repeat what was sent to it."""
    kind = _content_type(answer)
    if _is_redirect(answer.status):
        where = answer.headers.get("location", "nowhere").partition("?")[0].partition("#")[0]
        what = f"a redirect to {where[:200]!r}: give the client the address that the app answers at"
    elif what is None:
        what = f"{kind or 'nothing that says what it is'}, {len(answer.body)} bytes"
    return UnexpectedAnswerError(
        f"this is no answer of a prefsync server: status {answer.status}, {what}"
        + ("; is the client's URL that of the mount?" if answer.status == HTTPStatus.NOT_FOUND else ""),
        answer.status,
        kind,
    )


def _is_redirect(status: int) -> bool:
    return HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST


def _content_type(answer: Answer) -> str:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()


def _etag(answer: Answer) -> str:
    etag = answer.headers.get("etag")
    if not etag:
        raise _unexpected(answer, "JSON without the header ETag")
    return etag


def _is_stale(answer: Answer) -> bool:
    return answer.headers.get("prefsync-stale", "").strip().lower() == "true"


def _change(data: Any) -> Change:
    removed = _member(data, "removed", dict)
    origin = data.get("origin")
    if not (origin is None or isinstance(origin, str)):
        raise _WrongFormError("'origin' is no text")
    if not all(
        isinstance(names, list) and all(isinstance(n, str) for n in names) for names in removed.values()
    ):
        raise _WrongFormError("'removed' is no object of lists of names")
    try:
        at = datetime.fromisoformat(_member(data, "at", str))
    except ValueError:
        raise _WrongFormError("'at' is no time") from None
    return Change(
        _revision(data, "revision"),
        _revision(data, "previous"),
        at,
        origin,
        _namespaces(_member(data, "changed", dict)),
        {name: tuple(keys) for name, keys in removed.items()},
    )


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _WrongFormError("it is no object")
    return value


def _member(data: Any, name: str, kind: type) -> Any:
    value = data.get(name) if isinstance(data, dict) else None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _WrongFormError(f"{name!r} is missing or of another type")
    return value


def _revision(data: Any, name: str) -> int:
    value: int = _member(data, name, int)
    if value < 0:
        raise _WrongFormError(f"{name!r} is negative")
    return value


def _namespaces(values: Mapping[str, Any]) -> dict[str, Any]:
    if not all(isinstance(fields, dict) for fields in values.values()):
        raise _WrongFormError("a namespace is no object")
    return dict(values)
