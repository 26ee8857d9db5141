"""OpenAPI links: what an answer is good for next, for tools that walk through an API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["add_links"]

_REVISION: Final = "$response.header.Prefsync-Revision"
_ETAG: Final = "$response.header.ETag"

_DOCUMENTS: Final = frozenset({"get", "put", "patch", "delete"})
_WRITES: Final = ("put", "patch", "delete")


def add_links(document: dict[str, Any], prefix: str) -> None:
    """Add links to the protocol's operations in an OpenAPI document.

    Done to a whole document, because a link names its operation by an id or a place that a mount knows last.

    Args:
        document: Where the operations are.
        prefix: Of the mount.
    """
    paths = {path: item for path, item in document["paths"].items() if path.startswith(prefix)}
    for path, item in paths.items():
        if not item.keys() >= _DOCUMENTS:
            continue
        for method in _DOCUMENTS:
            item[method]["responses"]["200"]["links"] = dict(_links(paths, prefix, path, method))


def _links(
    paths: dict[str, Any], prefix: str, path: str, method: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what can be done with the answer to a request for a document, by a name of its own."""
    item = paths[path]
    reading = {"If-None-Match": _ETAG} if method == "get" else {"Prefsync-Min-Revision": _REVISION}
    yield "read", _link(item["get"], {f"header.{name}": value for name, value in reading.items()})
    for write in _WRITES:
        yield write, _link(item[write], {"header.If-Match": _ETAG})
    changes = paths.get(f"{prefix}/changes")
    if changes is not None:
        yield "changes", _link(changes["get"], {"query.since": _REVISION})


def _link(operation: dict[str, Any], parameters: dict[str, str]) -> dict[str, Any]:
    return {"operationId": operation["operationId"], "parameters": parameters}
