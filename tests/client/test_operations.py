"""What both clients do against the example app under uvicorn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from prefsync.client import Change, ConflictError, RefusedError, Reset
from prefsync.testing.mount.callers import DEFAULTS, READ
from tests.client.conftest import PATIENCE, token_for
from tests.http.conftest import example

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.conftest import Events, Prefs
    from tests.servers import ServerProcess

pytestmark = [pytest.mark.anyio, pytest.mark.once]


async def test_reads(prefs: Prefs) -> None:
    """The whole document and one namespace come as dicts, and with revision and tags when asked."""
    assert await prefs.get() == DEFAULTS
    assert await prefs.get("editor") == DEFAULTS["editor"]
    state = await prefs.read()
    assert (state.values, state.revision, state.is_stale) == (DEFAULTS, 0, False)
    assert state.schema
    assert (await prefs.read("editor")).etag != state.etag
    assert set((await prefs.schema())["properties"]) == set(DEFAULTS)


async def test_writes(prefs: Prefs) -> None:
    """Each write answers with what it left, and the next read has it."""
    patched = await prefs.patch("appearance", {"theme": "dark"})
    assert patched.values == {**DEFAULTS["appearance"], "theme": "dark"}
    replaced = await prefs.set("appearance", {"font_size": 20})
    assert replaced.values == {**DEFAULTS["appearance"], "font_size": 20}
    assert replaced.revision > patched.revision
    assert await prefs.read("appearance") == replaced
    assert (await prefs.reset("appearance")).values == DEFAULTS["appearance"]
    whole = await prefs.set_all({"editor": {"tab_size": 2}})
    assert whole.values["editor"]["tab_size"] == 2
    whole = await prefs.patch_all({"plugins": {"a": {"b": [1, None, "ß"]}}, "editor": None})
    assert whole.values == {**DEFAULTS, "plugins": {"a": {"b": [1, None, "ß"]}}}
    assert await prefs.get() == whole.values
    assert (await prefs.reset()).values == DEFAULTS


async def test_models(prefs: Prefs) -> None:
    """A model in place of a name gives instances; of an instance, the fields that were set are written."""
    appearance = await prefs.get(example.Appearance)
    assert type(appearance) is example.Appearance
    written = await prefs.set(example.Appearance, example.Appearance(theme="dark"))
    assert written.values.theme == "dark"
    assert (await prefs.patch(example.Appearance, {"font_size": 9})).values.font_size == 9
    plugins = await prefs.set(example.Plugins, example.Plugins({"a": None}))
    assert dict(plugins.values) == {"a": None}
    assert (await prefs.reset(example.Appearance)).values == example.Appearance()


async def test_refusals(prefs: Prefs) -> None:
    """A problem becomes an error with its pointers, and nothing is written."""
    with pytest.raises(RefusedError) as caught:
        await prefs.patch_all(
            {"appearance": {"theme": "pink"}, "editor": {"tab_size": 99, "word_wrap": True}}
        )
    error = caught.value
    assert (error.status, error.type) == (422, "urn:prefsync:problem:invalid-preferences")
    assert {entry.pointer for entry in error.errors} == {"/appearance/theme", "/editor/tab_size"}
    with pytest.raises(RefusedError, match="404 not-found"):
        await prefs.get("unheard_of")
    assert (await prefs.read()).revision == 0


async def test_arguments_are_checked_before_anything_is_sent(prefs: Prefs) -> None:
    """What cannot be meant raises Python's own errors: other paths, NaN, objects that JSON does not have."""
    for name in ("", "Ä", "a/b", "..", "schema", "events", "a?b"):
        with pytest.raises(ValueError, match="namespace"):
            await prefs.get(name)
    with pytest.raises(ValueError, match="JSON"):
        await prefs.patch("plugins", {"a": float("nan")})
    with pytest.raises(TypeError, match="JSON"):
        await prefs.patch("plugins", {"a": object()})
    with pytest.raises(TypeError, match="mapping"):
        await prefs.patch("plugins", [1])
    with pytest.raises(TypeError, match="a name or a model"):
        await prefs.get(7)
    with pytest.raises(ValueError, match="idempotency key"):
        await prefs.patch("plugins", {}, idempotency_key="ä")


async def test_conditions(prefs: Prefs) -> None:
    """A write upon an old state is a conflict and writes nothing; upon the present one it is made."""
    old = await prefs.read("plugins")
    new = await prefs.patch("plugins", {"a": 1}, if_match=old)
    with pytest.raises(ConflictError) as caught:
        await prefs.patch("plugins", {"a": 2}, if_match=old.etag)
    assert caught.value.status == 412
    assert (await prefs.patch("plugins", {"a": 3}, if_match=new)).values == {"a": 3}


async def test_two_writers_lose_nothing(prefs: Prefs, connect: Callable[..., Prefs], user: str) -> None:
    """Two clients that count by ``if_match``, reading again after each conflict, miss no count."""
    other = connect(prefs.client._core.url, token_for(user))

    async def count(client: Prefs) -> None:
        for _ in range(5):
            while True:
                state = await client.read("plugins")
                try:
                    await client.patch("plugins", {"n": state.values.get("n", 0) + 1}, if_match=state)
                    break
                except ConflictError:
                    continue

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count, prefs)
        tasks.start_soon(count, other)
    assert await prefs.get("plugins") == {"n": 10}


async def test_idempotency_keys_by_hand(prefs: Prefs) -> None:
    """The same key makes one write, with the first answer; for another write it is refused."""
    first = await prefs.patch("plugins", {"a": 1}, idempotency_key="k1")
    await prefs.patch("plugins", {"a": 2})
    assert await prefs.patch("plugins", {"a": 1}, idempotency_key="k1") == first
    assert await prefs.get("plugins") == {"a": 2}
    state = await prefs.read("plugins")
    made = await prefs.patch("plugins", {"a": 4}, if_match=state, idempotency_key="k2")
    assert await prefs.patch("plugins", {"a": 4}, if_match=state, idempotency_key="k2") == made
    with pytest.raises(RefusedError, match="idempotency-mismatch"):
        await prefs.patch("plugins", {"a": 3}, idempotency_key="k1")


async def test_scopes(server: ServerProcess, user: str, connect: Callable[..., Prefs]) -> None:
    """A token that may only read reads, and its writes are refused."""
    reader = connect(f"{server.url}/preferences/", token_for(user, scope=READ))
    assert await reader.get("plugins") == {}
    with pytest.raises(RefusedError, match="insufficient-scope"):
        await reader.patch("plugins", {"a": 1})


async def followed(events: Events, revision: int) -> tuple[dict[str, Any], list[int]]:
    """Apply events until a revision, and return the values and the revisions on the way."""
    values: dict[str, Any] = {}
    revisions: list[int] = []
    with anyio.fail_after(PATIENCE):
        while not revisions or revisions[-1] < revision:
            event = await events.next()
            assert event is not None
            values = event.apply(values)
            revisions.append(event.revision)
    return values, revisions


async def test_watch(prefs: Prefs) -> None:
    """A watch begins with a reset, then tells each change once, this client's own too."""
    async with prefs.watching() as events:
        first = await events.next()
        assert isinstance(first, Reset)
        assert (first.revision, first.values) == (0, DEFAULTS)
        wrote = await prefs.patch("plugins", {"a": 1, "b": 2})
        told = await events.next()
        assert isinstance(told, Change)
        assert (told.revision, told.previous, told.origin) == (wrote.revision, 0, "suite")
        assert told.at.tzinfo is not None
        gone = await prefs.patch("plugins", {"a": None})
        told = await events.next()
        assert isinstance(told, Change)
        assert (told.revision, told.removed) == (gone.revision, {"plugins": ("a",)})
        assert told.apply({"plugins": {"a": 1, "b": 2}}) == {"plugins": {"b": 2}}


async def test_watch_from_a_revision(prefs: Prefs) -> None:
    """A watch since a revision tells what came after it, and not what came before."""
    first = await prefs.patch("plugins", {"a": 1})
    more = [(await prefs.patch("plugins", {"a": value})).revision for value in (2, 3)]
    async with prefs.watching(first.revision) as events:
        told = [(await events.next()) for _ in more]
        assert [event.revision for event in told if isinstance(event, Change)] == more
        last = await prefs.patch("plugins", {"a": 4})
        event = await events.next()
        assert event is not None
        assert event.revision == last.revision


@pytest.mark.parametrize(("since", "schema"), [(1, None), (2**53 - 1, None), (None, "another")])
async def test_watch_from_nowhere(prefs: Prefs, since: int | None, schema: str | None) -> None:
    """A revision that never was, or another schema, is a reset to what there is."""
    state = await prefs.patch("plugins", {"a": 1})
    async with prefs.watching(state.revision if since is None else since, schema=schema) as events:
        event = await events.next()
        assert isinstance(event, Reset)
        assert (event.revision, event.values["plugins"]) == (state.revision, {"a": 1})


async def test_watch_of_a_slow_reader(prefs: Prefs) -> None:
    """Who does not read while megabytes of changes pass ends up with the last state, in rising revisions."""
    async with prefs.watching() as events:
        first = await events.next()
        assert first is not None
        big = "x" * 16_000
        for number in range(100):
            last = await prefs.patch("plugins", {f"k{number % 7}": big, "n": number})
        values, revisions = await followed(events, last.revision)
        assert values["plugins"]["n"] == 99
        assert revisions == sorted(set(revisions))
        assert first.apply({}) | values == await prefs.get()


async def test_watch_ends_by_its_time_limit(prefs: Prefs) -> None:
    """A watch with a time limit ends by itself."""
    async with prefs.watching(time_limit=0.5) as events:
        assert await events.next() is not None
        started = anyio.current_time()
        assert await events.next() is None
        assert anyio.current_time() - started < 5
