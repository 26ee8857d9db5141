"""The protocol in the host's OpenAPI document."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.security import APIKeyHeader

from prefsync import ApiOptions, OpenPreferences, Rate, Settings
from prefsync.testing.mount import KEY
from prefsync.testing.mount.callers import DEFAULTS
from tests.http.hosts import app_with, memory_mount, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefsync.testing.mount import Answer

pytestmark = pytest.mark.anyio

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}

# What every HTTP answer may have, and no description of an API lists.
USUAL_HEADERS = {
    "content-type",
    "content-length",
    "content-encoding",
    "cache-control",
    "vary",
    "x-content-type-options",
}


def document_of(app: FastAPI) -> dict[str, Any]:
    """Return an app's OpenAPI document as a client gets it."""
    document: dict[str, Any] = json.loads(json.dumps(app.openapi(), allow_nan=False))
    return document


def operations_of(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each operation with its path and method."""
    for path, item in document["paths"].items():
        assert path.startswith("/")
        assert item.keys() <= METHODS | {"summary", "description", "parameters", "servers"}
        for method in METHODS & item.keys():
            yield path, method, item[method]


def references_in(value: Any) -> Iterator[str]:
    """Yield every reference in a document."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for member in value.values():
            yield from references_in(member)
    elif isinstance(value, list):
        for item in value:
            yield from references_in(item)


def assert_is_openapi(document: dict[str, Any]) -> None:
    """Check what the OpenAPI Specification 3.1 asks of a document."""
    assert document["openapi"].startswith("3.1.")
    assert document["info"].keys() >= {"title", "version"}
    for reference in references_in(document):
        assert reference.startswith("#/")
        place: Any = document
        for token in reference[2:].split("/"):
            place = place[token.replace("~1", "/").replace("~0", "~")]
    names = [operation["operationId"] for _, _, operation in operations_of(document)]
    assert len(names) == len(set(names))
    schemes = document.get("components", {}).get("securitySchemes", {})
    for path, _, operation in operations_of(document):
        declared = [(one["name"].lower(), one["in"]) for one in operation.get("parameters", [])]
        assert len(declared) == len(set(declared))
        for parameter in operation.get("parameters", []):
            assert parameter["in"] in {"query", "header", "path", "cookie"}
            assert ("schema" in parameter) != ("content" in parameter)
            assert parameter["name"].lower() not in {"accept", "content-type", "authorization"}
            if parameter["in"] == "path":
                assert parameter["required"] is True
                assert f"{{{parameter['name']}}}" in path
        assert operation["responses"]
        for status, response in operation["responses"].items():
            assert status == "default" or (len(status) == 3 and status.isdigit())
            assert response["description"]
            for header in response.get("headers", {}).values():
                assert "schema" in header
        if "requestBody" in operation:
            assert operation["requestBody"]["content"]
        for requirement in operation.get("security", []):
            assert requirement.keys() <= schemes.keys()


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document of an app with one mount."""
    return document_of(app_with(memory_mount()))


def test_it_is_an_openapi_document(document: dict[str, Any]) -> None:
    """Version 3.1, with unique operations, whole references and declared security."""
    assert_is_openapi(document)


def test_every_path_of_the_protocol_is_there(document: dict[str, Any]) -> None:
    """Each declared namespace with its four methods, the schema, the changes and the streams, and nothing else."""
    writable = {"get", "put", "patch", "delete"}
    assert {path: set(item) for path, item in document["paths"].items()} == {
        "/preferences": writable,
        **{f"/preferences/{name}": writable for name in DEFAULTS},
        "/preferences/schema": {"get"},
        "/preferences/changes": {"get"},
        "/preferences/events": {"get"},
        "/preferences/ticket": {"post"},
    }


def test_every_operation_is_told(document: dict[str, Any]) -> None:
    """In words, under the tag, behind the bearer scheme."""
    assert document["components"]["securitySchemes"]["preferences"] == {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": document["components"]["securitySchemes"]["preferences"]["description"],
    }
    for _, _, operation in operations_of(document):
        assert operation["summary"]
        assert operation["description"]
        assert operation["tags"] == ["preferences"]
        assert operation["security"] == [{"preferences": []}]


def test_the_schemas_of_namespaces(document: dict[str, Any]) -> None:
    """What is read, put and patched has the fields of its namespace, with their defaults and rules."""
    for name, fields in DEFAULTS.items():
        item = document["paths"][f"/preferences/{name}"]
        shown = item["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        put = item["put"]["requestBody"]["content"]
        patch = item["patch"]["requestBody"]["content"]
        assert put.keys() == {"application/json"}
        assert patch.keys() == {"application/json", "application/merge-patch+json"}
        for schema in (shown, put["application/json"]["schema"]):
            assert schema["type"] == "object"
            assert {
                field: rules["default"] for field, rules in schema.get("properties", {}).items()
            } == fields
        for content in patch.values():
            for rules in content["schema"].get("properties", {}).values():
                assert {"type": "null"} in rules["anyOf"]
    whole = document["paths"]["/preferences"]["get"]["responses"]["200"]["content"]["application/json"][
        "schema"
    ]
    assert set(whole["required"]) == {"revision", "schema", "values"}
    assert whole["properties"]["values"]["properties"].keys() == DEFAULTS.keys()


def test_the_parameters_of_operations(document: dict[str, Any]) -> None:
    """Every header and query parameter that the protocol reads, where it reads it."""
    conditions = {("if-match", "header"), ("if-none-match", "header")}
    expected = {
        "get": conditions | {("prefsync-min-revision", "header")},
        **dict.fromkeys(
            ("put", "patch", "delete"),
            conditions | {("idempotency-key", "header"), ("prefsync-client", "header")},
        ),
    }
    for path, method, operation in operations_of(document):
        found = {(one["name"].lower(), one["in"]) for one in operation["parameters"]}
        if path.endswith("/changes"):
            assert found == {(name, "query") for name in ("since", "wait", "limit", "schema")}
            (since,) = (one for one in operation["parameters"] if one["name"] == "since")
            assert since["required"] is True
        elif path.endswith("/events"):
            asked = {(name, "query") for name in ("since", "schema", "ticket")}
            assert found == {*asked, ("last-event-id", "header")}
        elif path.endswith("/ticket"):
            assert not found
        elif path.endswith("/schema"):
            assert ("if-none-match", "header") in found
        else:
            assert found == expected[method]


REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    *(
        (method, path, more)
        for path in ("", "/appearance", "/plugins")
        for method, more in [
            ("GET", {}),
            ("GET", {"headers": {"If-None-Match": "*"}}),
            ("GET", {"headers": {"If-Match": '"x"'}}),
            ("GET", {"headers": {"If-Match": "x"}}),
            ("GET", {"headers": {"Prefsync-Min-Revision": "1"}}),
            ("PUT", {"value": {}}),
            ("PATCH", {"value": {}}),
            ("DELETE", {}),
            ("DELETE", {"headers": {"If-Match": '"x"'}}),
            ("DELETE", {"headers": {"Idempotency-Key": ""}}),
            ("DELETE", {"headers": {"Idempotency-Key": "one"}}),
            ("PUT", {"raw": b"{"}),
            ("PUT", {"raw": b"{}", "media": None}),
            ("PATCH", {"raw": b"{}", "headers": {"Content-Encoding": "gzip"}}),
            ("PUT", {"raw": b" " * 300_000}),
            ("PATCH", {"value": []}),
            ("PUT", {"value": {}, "headers": {"If-None-Match": "*"}}),
            ("PUT", {"value": {}, "headers": {"Idempotency-Key": "one"}}),
        ]
    ),
    ("GET", "/schema", {}),
    ("GET", "/schema", {"headers": {"If-None-Match": "*"}}),
    ("GET", "/schema", {"headers": {"If-None-Match": "x"}}),
    ("GET", "/schema", {"headers": {"If-Match": '"x"'}}),
    ("GET", "/changes", {}),
    ("GET", "/changes", {"query": "since=0"}),
]


async def test_every_answer_is_described(document: dict[str, Any]) -> None:
    """Each status that comes, with each header of the protocol's on it, is in the document."""
    undescribed: set[str] = set()

    def check(method: str, path: str, answer: Answer) -> None:
        responses = document["paths"][f"/preferences{path}"][method.lower()]["responses"]
        described = responses.get(str(answer.status))
        if described is None:
            undescribed.add(f"{method} {path}: {answer.status}")
            return
        named = {name.lower() for name in described.get("headers", {})} | USUAL_HEADERS
        for name in {name for name, _ in answer.headers} - named:
            undescribed.add(f"{method} {path}: {name} of {answer.status}")
        kinds = described.get("content", {}).keys()
        assert {answer.headers["Content-Type"]} == kinds if answer.body else not kinds

    demanding = memory_mount(options=ApiOptions(require_if_match=True))
    hasty = memory_mount(settings=Settings(jwt_key=KEY, rate_limit=Rate(1, 60)))
    paths = list(dict.fromkeys((method, path) for method, path, _ in REQUESTS))
    async with running(
        app_with(memory_mount(settings=Settings(jwt_key=KEY, rate_limit=Rate(999, 60))))
    ) as me:
        for method, path, more in REQUESTS:
            check(method, path, await me.send(method, path, **more))
        for method, path in paths:
            check(method, path, await me.holding(scope="").write(method, path, {}, query="since=0"))
            check(method, path, await me.client.request(method, path))
            bad = {"Authorization": "Bearer bad"}
            check(method, path, await me.client.request(method, path, headers=bad))
    async with running(app_with(demanding)) as me:
        for method, path in paths:
            if method not in {"GET", "HEAD"}:
                check(method, path, await me.write(method, path, {}))
    async with running(app_with(hasty)) as me:
        await me.get()
        for method, path in paths:
            check(method, path, await me.write(method, path, {}))
    assert not undescribed


class Other(OpenPreferences, namespace="other"):
    """A namespace of a second mount's."""


@pytest.mark.parametrize("kind", ["two-mounts", "two-mounts-alike", "one-mount-twice"])
def test_operations_are_unique(kind: str) -> None:
    """With two mounts in an app, or one router under two prefixes, every operation has a name of its own."""
    first = memory_mount()
    second = {"two-mounts": memory_mount([Other]), "two-mounts-alike": memory_mount()}.get(kind, first)
    document = document_of(app_with(first, second))
    assert_is_openapi(document)
    assert {path.split("/")[1] for path in document["paths"]} == {"preferences", "preferences2"}


def test_the_hosts_own_tags_and_routes() -> None:
    """What the host says of its include holds, and its own operations stand beside."""
    app = FastAPI()
    app.include_router(memory_mount().router, prefix="/preferences", tags=["mine"], deprecated=True)

    @app.get("/own")
    async def own() -> str:
        return ""

    document = document_of(app)
    assert_is_openapi(document)
    assert "/own" in document["paths"]
    operation = document["paths"]["/preferences"]["get"]
    assert operation["tags"] == ["mine", "preferences"]
    assert operation["deprecated"] is True


def test_an_include_that_is_not_to_be_shown() -> None:
    """``include_in_schema=False`` hides everything."""
    app = FastAPI()
    app.include_router(memory_mount().router, prefix="/preferences", include_in_schema=False)
    assert document_of(app)["paths"] == {}


def test_the_hosts_own_authentication_is_shown() -> None:
    """With the host's own dependency the document names the host's scheme, and no bearer token."""
    key = APIKeyHeader(name="X-Key", scheme_name="hosts-key")

    async def user(found: Annotated[str, Depends(key)]) -> str:
        return found

    user.__annotations__["found"] = Annotated[str, Depends(key)]  # a name in here FastAPI cannot look up
    document = document_of(app_with(memory_mount(authenticate=user)))
    assert_is_openapi(document)
    assert document["components"]["securitySchemes"].keys() == {"hosts-key"}
    for _, _, operation in operations_of(document):
        assert operation["security"] == [{"hosts-key": []}]


async def test_the_document_is_served() -> None:
    """Making it is no obstacle to answering, and the other way round."""
    app = app_with(memory_mount())
    async with running(app, "") as me:
        (await me.get("/preferences")).ok()
        assert (await me.get("/openapi.json")).ok() == document_of(app)
        (await me.get("/preferences")).ok()
