"""The protocol's operations as a document of their own: Flask has none to put them into."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from prefsync.http.links import add_links
from prefsync.http.openapi import BEARER, describe

if TYPE_CHECKING:
    from prefsync.schema import Schema

__all__ = ["openapi_document"]


def openapi_document(schema: Schema, url_prefix: str, title: str, *, has_tokens: bool) -> dict[str, Any]:
    """Return an OpenAPI 3.1 document.

    Args:
        schema: What the host declared.
        url_prefix: Where the mount is.
        title: The app's.
        has_tokens: Whether bearer tokens are verified; how else the host authenticates is for the host to add.
    """
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "0.1.0"},
        "paths": {},
    }
    if has_tokens:
        document["components"] = {"securitySchemes": {"preferences": BEARER}}
    for path, method, described in describe(schema):
        place = url_prefix + path
        operation = {**described, "tags": ["preferences"]}
        # As FastAPI makes them, so that a client that is generated for one mount fits the other.
        operation["operationId"] = re.sub(r"\W", "_", f"{described['operationId']}{place}") + f"_{method}"
        if has_tokens:
            operation["security"] = [{"preferences": []}]
        document["paths"].setdefault(place, {})[method] = operation
    add_links(document, url_prefix)
    return document
