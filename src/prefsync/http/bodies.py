"""Request bodies: read within bounds, parsed strictly, turned into what the write is to do."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from prefsync.document import Document
from prefsync.eager import within
from prefsync.errors import FieldError, InvalidPreferencesError, MalformedError
from prefsync.http.problems import TooLargeError, UnsupportedMediaTypeError
from prefsync.merge import Edit, Mutation, Patch, Replace, Reset
from prefsync.strictjson import Limits, is_too_deep, parse, pointer, problems_in

if TYPE_CHECKING:
    from prefsync.http.messages import HttpRequest
    from prefsync.schema import Schema

__all__ = ["READ_LIMIT", "mutation_from", "read_body", "read_json"]

READ_LIMIT: Final = 30.0
"""Seconds that a client has to send a body: one that drips holds a connection, and under WSGI a thread."""

# Digits of a Content-Length worth converting: more are a petabyte.
_LENGTH_DIGITS: Final = 15


async def read_json(request: HttpRequest, limits: Limits) -> Any:
    """Read and parse a request's body.

    Raises:
        UnsupportedMediaTypeError: Its type is missing or another than JSON, or it is compressed.
        TooLargeError: It is larger than the host takes; reading stopped there.
        MalformedError: It is no JSON, or it did not come in time.
        ClientGoneError: The client went away in the middle.
    """
    problem = _type_problem(
        request.method, request.header(b"content-type"), request.header(b"content-encoding")
    )
    if problem is not None:
        detail, is_coding = problem
        raise UnsupportedMediaTypeError(detail, coding=is_coding)
    declared = request.header(b"content-length") or "0"
    if not (declared.isascii() and declared.isdigit()):
        raise MalformedError("Content-Length must be a number of bytes")
    if len(declared) > _LENGTH_DIGITS or int(declared) > limits.body:
        raise _too_large(limits)
    body = await read_body(request, limits.body)
    if len(body) > limits.body:
        raise _too_large(limits)
    return parse(body)


async def read_body(request: HttpRequest, limit: int) -> bytes:
    """Read a request's body, at most so many bytes; one byte more says that it is longer.

    Raises:
        MalformedError: It did not come in time.
        ClientGoneError: The client went away in the middle.
    """
    try:
        return await within(READ_LIMIT, request.read(limit))
    except TimeoutError:
        raise MalformedError(f"the body did not come within {READ_LIMIT:.0f} s") from None


def _too_large(limits: Limits) -> TooLargeError:
    return TooLargeError(f"a body may have at most {limits.body} bytes")


@lru_cache(maxsize=256)
def _type_problem(method: str, declared: str | None, coding: str | None) -> tuple[str, bool] | None:
    """Return what is wrong with a body's type, if anything, and whether it is the coding."""
    accepted = ["application/json"]
    if method == "PATCH":
        accepted.append("application/merge-patch+json")
    kind, *parameters = (part.strip().lower() for part in (declared or "").split(";"))
    if kind not in accepted:
        return f"send the body as {' or '.join(accepted)}", False
    if any(p.startswith("charset=") and p[8:].strip('"') not in {"utf-8", "utf8"} for p in parameters):
        return "send the body in UTF-8", False
    if (coding or "identity").strip().lower() != "identity":
        return "send the body uncompressed", True
    return None


def mutation_from(
    method: str,
    namespace: str | None,
    body: Any,
    schema: Schema,
    limits: Limits,
    known: Document | None = None,
) -> Mutation:
    """Return what a ``PUT`` or ``PATCH`` is to do.

    Args:
        method: ``PUT`` or ``PATCH``.
        namespace: The namespace in the path; ``None`` for the whole document.
        body: As parsed.
        schema: What the host declared.
        limits: How large it may be.
        known: What the subject had stored when it was last seen, if that is known: what a ``PUT`` sends back
            unchanged need not be looked at.

    Raises:
        InvalidPreferencesError: The body has not the form that its path needs, or holds what cannot be stored.
    """
    replaces = method == "PUT"
    edits: dict[str, Edit] = {}
    if replaces and known is not None and namespace is None and isinstance(body, dict):
        edits |= _unchanged(body, schema, known)
    rest = {name: values for name, values in body.items() if name not in edits} if edits else body
    at = (namespace,) if namespace else ()
    # What replaces is stored as it is; of what is merged, only the result has to keep the limits.
    is_checked = replaces and not problems_in(rest, limits, at)
    errors = [] if is_checked else problems_in(rest, at=at)
    if not isinstance(body, dict):
        errors += [] if is_too_deep(body) else [_no_object(pointer(*at))]
    elif namespace is not None:
        edits[namespace] = Replace(body, is_checked) if replaces else Patch(body)
    else:
        for name, values in rest.items():
            found = _edit(name, values, schema, is_checked=is_checked, replaces=replaces)
            if isinstance(found, FieldError):
                errors.append(found)
            else:
                edits[name] = found
        if replaces and len(edits) < len(schema.namespaces):
            edits |= {name: Replace({}) for name in schema.namespaces if name not in edits}
    if errors:
        # Whatever is stored, this cannot be taken. The rules are asked of the rest all the same, so that the client
        # hears of everything at once.
        broken = {"/".join(error.pointer.split("/")[:3]) for error in errors}
        rest = {
            name: _without(broken, name, edit) for name, edit in edits.items() if pointer(name) not in broken
        }
        raise InvalidPreferencesError(errors + Mutation(rest).errors_upon(schema, Document(), limits))
    return Mutation(edits)


def _unchanged(body: dict[str, Any], schema: Schema, known: Document) -> dict[str, Edit]:
    """Return what replaces namespaces by what they hold already: by the very same objects."""
    return {
        name: Replace(known.values[name], is_checked=True)
        for name, values in body.items()
        if isinstance(values, dict)
        and known.has(name, values)
        and (namespace := schema.namespaces.get(name)) is not None
        and known.is_known_to_fit(namespace.model)
    }


def _edit(name: str, values: Any, schema: Schema, *, is_checked: bool, replaces: bool) -> Edit | FieldError:
    """Return what a member of a whole document's body does, or what is wrong with it."""
    if name not in schema.namespaces:
        detail = f"no such namespace; declared are {', '.join(schema.namespaces)}"
        return FieldError(pointer(name), "undeclared_namespace", detail)
    if values is None and not replaces:
        return Reset()
    if not isinstance(values, dict):
        return _no_object(pointer(name))
    return Replace(values, is_checked) if replaces else Patch(values)


def _without(broken: set[str], namespace: str, edit: Edit) -> Edit:
    """Leave out of an edit the fields that something is wrong with already."""
    match edit:
        case Replace(values):
            return Replace(
                {name: value for name, value in values.items() if pointer(namespace, name) not in broken}
            )
        case Patch(values):
            return Patch(
                {name: value for name, value in values.items() if pointer(namespace, name) not in broken}
            )
        case _:
            return edit


def _no_object(place: str) -> FieldError:
    return FieldError(place, "object_type", "this must be an object")
