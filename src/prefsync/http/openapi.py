"""The protocol as OpenAPI 3.1 operations, the same for every mount.

Schemas stand in the operations themselves and not among the document's components, which belong to the
host: a mount can hand over operations in any framework, but not always components.
"""

from __future__ import annotations

from copy import deepcopy
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from prefsync.http.problems import STATUS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefsync.schema import Schema

__all__ = ["BEARER", "describe"]

BEARER: Final[dict[str, Any]] = {
    "type": "http",
    "description": "An OAuth 2.0 access token with the scopes `preferences:read` and `preferences:write`.",
    "scheme": "bearer",
    "bearerFormat": "JWT",
}
"""The security scheme of a mount that verifies tokens, by the name ``preferences``."""

# Definitions within definitions that are spelled out; deeper than any preference that a form could show.
_DEEPEST: Final = 8

_REVISION: Final = {"type": "integer", "minimum": 0, "maximum": 2**53 - 1}
_STRING: Final = {"type": "string"}

# Entity tags, or a star (RFC 9110, section 13.1).
_TAG: Final = r'(W/)?"[!#-~]*"'
_TAGS: Final = rf"^(\*|{_TAG}( *, *{_TAG})*)$"

_PROBLEM: Final[dict[str, Any]] = {
    "title": "Problem",
    "description": "Problem details (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "`urn:prefsync:problem:` and the error's name"},
        "title": _STRING,
        "status": {"type": "integer"},
        "detail": _STRING,
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "code", "detail"],
                "properties": {
                    "pointer": {"type": "string", "description": "JSON pointer from the document's root"},
                    "code": _STRING,
                    "detail": _STRING,
                },
            },
        },
    },
}

_LIMIT_HEADERS: Final[dict[str, Any]] = {
    "RateLimit-Policy": {"description": "The quota: `q` requests in `w` seconds", "schema": _STRING},
    "RateLimit": {"description": "What is left: `r` requests, more after `t` seconds", "schema": _STRING},
}
_STATE_HEADERS: Final[dict[str, Any]] = {
    "ETag": {"description": "Strong, opaque; for `If-Match` and `If-None-Match`", "schema": _STRING},
    "Prefsync-Revision": {"description": "The subject's revision", "schema": _REVISION},
    "Prefsync-Stale": {"description": "`true` where the database is out of reach", "schema": _STRING},
}
_ERROR_HEADERS: Final[dict[int, dict[str, Any]]] = {
    401: {"WWW-Authenticate": {"description": "RFC 6750, section 3", "schema": _STRING}},
    403: {"WWW-Authenticate": {"description": "RFC 6750, section 3", "schema": _STRING}},
    415: {"Accept-Encoding": {"description": "`identity`, where the coding was at fault", "schema": _STRING}},
    429: {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}},
    503: {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}},
}


def describe(schema: Schema) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each operation: its path below the prefix, its method in lower case, its OpenAPI object.

    Args:
        schema: What the host declared.
    """
    namespaces = {
        name: _resolved(rules, schema.json_schema) for name, rules in schema.json_schema["properties"].items()
    }
    values = _object(namespaces)
    state = {
        "title": "State",
        "type": "object",
        "required": ["revision", "schema", "values"],
        "properties": {"revision": _REVISION, "schema": _STRING, "values": values},
    }
    patch = _object({name: _nullable(_patch_of(rules)) for name, rules in namespaces.items()}, title="Patch")
    yield from _document("", "all preferences", "all", state, _object(namespaces, title="Preferences"), patch)
    for name, rules in namespaces.items():
        yield from _document(f"/{name}", f"the namespace {name}", name, rules, rules, _patch_of(rules))
    yield (
        "/schema",
        "get",
        _operation(
            "Read the schema",
            "read_schema",
            "JSON Schema 2020-12 of the preferences, with titles, descriptions and defaults.",
            [
                _header("If-Match", "Answer only if the schema is still this one", pattern=_TAGS),
                _header("If-None-Match", "Answer 304 if the schema is still this one", pattern=_TAGS),
            ],
            {"type": "object"},
            (304, 400, 401, 403, 412, 429),
            {"ETag": _STATE_HEADERS["ETag"]},
        ),
    )
    yield (
        "/changes",
        "get",
        _operation(
            "Read what has changed",
            "read_changes",
            "The changes after a revision, oldest first; with `wait`, as soon as there is one.",
            [
                _query("since", "The newest revision that the client has", _REVISION, required=True),
                _query(
                    "wait",
                    "Seconds to wait for a change",
                    {"type": "number", "minimum": 0, "maximum": 60, "default": 0},
                ),
                _query(
                    "limit",
                    "The most changes",
                    {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
                ),
                _query("schema", "The schema tag that the client has", _STRING),
            ],
            _changes(values),
            (400, 401, 403, 429, 503),
            {"Prefsync-Revision": _STATE_HEADERS["Prefsync-Revision"]},
        ),
    )
    yield from _streams()


def _streams() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield how streams are opened; OpenAPI has no words for a WebSocket, ``GET /ws``."""
    events = _operation(
        "Follow what changes",
        "read_events",
        "Server-sent events: `reset`, `change` and `bye`, each with JSON as data.",
        [
            _query("since", "The newest revision that the client has", _REVISION),
            _query("schema", "The schema tag that the client has", _STRING),
            _query("ticket", "In place of a token; good once", _STRING),
            _header("Last-Event-ID", "Wins over `since`"),
        ],
        _STRING,
        (400, 401, 403, 429, 503),
        {},
    )
    events["responses"]["200"]["content"] = {"text/event-stream": {"schema": _STRING}}
    yield "/events", "get", events
    shown = _object({"ticket": _STRING, "expires_in": {"type": "integer"}}, title="Ticket")
    yield (
        "/ticket",
        "post",
        _operation(
            "Get a ticket for a stream",
            "issue_ticket",
            "Opens `/events` or `/ws` once within a minute, where a browser cannot set headers.",
            [],
            shown,
            (401, 403, 429, 503),
            {},
        ),
    )


def _document(
    path: str, what: str, name: str, shown: Any, put: Any, patch: Any
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    if_match = _header("If-Match", "Write only upon the state with this ETag", pattern=_TAGS)
    if_none_match = _header(
        "If-None-Match", "Answer 304 (a write: 412) if the state is the one with this ETag", pattern=_TAGS
    )
    write = [
        if_match,
        if_none_match,
        _header(
            "Idempotency-Key",
            "Makes the request safe to repeat for 24 h; use a UUID",
            pattern=r"^[!-~]{1,128}$",
        ),
        _header(
            "Prefsync-Client", "The client's own name, echoed as `origin`", pattern=r"^[A-Za-z0-9._-]{1,64}$"
        ),
    ]
    minimum = _header(
        "Prefsync-Min-Revision", "Answer with nothing older than this revision", schema=_REVISION
    )
    reading = (304, 400, 401, 403, 412, 429, 503)
    writing = (400, 401, 403, 412, 413, 415, 422, 428, 429, 503)
    yield (
        path,
        "get",
        _operation(
            f"Read {what}",
            f"read_{name}",
            "Effective values: what is stored, laid over the defaults.",
            [if_match, if_none_match, minimum],
            shown,
            reading,
            _STATE_HEADERS,
        ),
    )
    yield (
        path,
        "put",
        _operation(
            f"Replace {what}",
            f"replace_{name}",
            "What is left out goes back to its default.",
            write,
            shown,
            writing,
            _STATE_HEADERS,
            {"application/json": {"schema": put}},
        ),
    )
    yield (
        path,
        "patch",
        _operation(
            f"Change some of {what}",
            f"patch_{name}",
            "A merge patch (RFC 7396); `null` goes back to the default.",
            write,
            shown,
            writing,
            _STATE_HEADERS,
            {"application/merge-patch+json": {"schema": patch}, "application/json": {"schema": patch}},
        ),
    )
    yield (
        path,
        "delete",
        _operation(
            f"Reset {what}",
            f"reset_{name}",
            "Everything here goes back to its default.",
            write,
            shown,
            (*tuple(status for status in writing if status not in {413, 415, 422}), 422),
            _STATE_HEADERS,
        ),
    )


def _operation(
    summary: str,
    operation_id: str,
    description: str,
    parameters: list[dict[str, Any]],
    shown: Any,
    errors: tuple[int, ...],
    headers: dict[str, Any],
    body: dict[str, Any] | None = None,
) -> dict[str, Any]:
    responses: dict[str, Any] = {
        "200": {
            "description": {"ETag": "The state", "Prefsync-Revision": "The changes"}.get(
                next(iter(headers), ""), summary
            ),
            "headers": {**headers, **_LIMIT_HEADERS},
            "content": {"application/json": {"schema": shown}},
        }
    }
    for status in errors:
        responses[str(status)] = _refusal(status, headers)
    operation: dict[str, Any] = {
        "summary": summary,
        "description": description,
        "operationId": f"prefsync_{operation_id}",
        "parameters": parameters,
        "responses": responses,
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": body}
    return deepcopy(operation)


def _refusal(status: int, headers: dict[str, Any]) -> dict[str, Any]:
    if status == HTTPStatus.NOT_MODIFIED:
        return {"description": "The client's copy is still good", "headers": {**headers, **_LIMIT_HEADERS}}
    titles = dict.fromkeys(title for code, title in STATUS.values() if code == status)
    return {
        "description": "; or: ".join(titles),
        "headers": {**_ERROR_HEADERS.get(status, {}), **_LIMIT_HEADERS},
        "content": {"application/problem+json": {"schema": _PROBLEM}},
    }


def _header(name: str, description: str, *, pattern: str | None = None, schema: Any = None) -> dict[str, Any]:
    rules = schema or {**_STRING, **({"pattern": pattern} if pattern else {})}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": rules}


def _query(name: str, description: str, schema: Any, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "description": description, "schema": schema}


def _object(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**more, "type": "object", "properties": properties, "additionalProperties": False}


def _nullable(rules: Any) -> dict[str, Any]:
    return {"anyOf": [rules, {"type": "null"}]}


def _patch_of(rules: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a merge patch over a namespace: any of its fields, or null for their defaults."""
    patch = {name: value for name, value in rules.items() if name not in {"default", "required"}}
    patch["title"] = f"{rules.get('title', '')} patch".strip()
    if "properties" in rules:
        patch["properties"] = {
            name: _nullable({k: v for k, v in field.items() if k != "default"})
            for name, field in rules["properties"].items()
        }
    return patch


def _changes(values: dict[str, Any]) -> dict[str, Any]:
    change = {
        "title": "Change",
        "type": "object",
        "required": ["revision", "previous", "at", "origin", "changed", "removed"],
        "properties": {
            "revision": _REVISION,
            "previous": _REVISION,
            "at": {"type": "string", "format": "date-time"},
            "origin": {"type": ["string", "null"]},
            "changed": {"type": "object", "additionalProperties": {"type": "object"}},
            "removed": {"type": "object", "additionalProperties": {"type": "array", "items": _STRING}},
        },
    }
    return {
        "title": "Changes",
        "type": "object",
        "required": ["revision", "schema", "reset", "has_more", "changes"],
        "properties": {
            "revision": _REVISION,
            "schema": _STRING,
            "reset": {"type": "boolean"},
            "has_more": {"type": "boolean"},
            "changes": {"type": "array", "items": change},
            "values": {**values, "description": "With a reset: replaces all that the client has"},
        },
    }


def _resolved(rules: Any, root: dict[str, Any], depth: int = 0) -> Any:
    """Put definitions where they are referred to; one that contains itself becomes `{}` where it nests deep."""
    match rules:
        case {"$ref": str(reference), **rest}:
            if depth > _DEEPEST:
                return {}
            definition = root["$defs"][reference.removeprefix("#/$defs/")]
            return _resolved({**definition, **rest}, root, depth + 1)
        case dict():
            return {name: _resolved(item, root, depth) for name, item in rules.items()}
        case list():
            return [_resolved(item, root, depth) for item in rules]
        case _:
            return rules
