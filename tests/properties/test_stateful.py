"""Any sequence of reads, writes, faults and feed pages agrees with a dictionary."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from prefsync.errors import (
    IdempotencyMismatchError,
    InvalidPreferencesError,
    PreconditionFailedError,
    UnavailableError,
)
from prefsync.merge import Edit, Mutation, Patch, Replace, Reset
from prefsync.ports import CacheEntry
from prefsync.service import IdempotentRequest
from prefsync.strictjson import equal
from prefsync.testing import FailingCache
from tests.properties.backends import Backend, profile
from tests.unit.support import DEFAULTS, Process, new_subject

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefsync.document import Snapshot
    from prefsync.feed import Page

pytestmark = pytest.mark.once

NAMES = tuple(DEFAULTS)

# --- The model: what RFC 7396 and the protocol say, written down once more and naively -------------------------------


def merged(target: Any, change: Any) -> Any:
    """Apply a merge patch as RFC 7396's pseudocode does, to copies."""
    if not isinstance(change, dict):
        return copy.deepcopy(change)
    target = copy.deepcopy(target) if isinstance(target, dict) else {}
    for name in change:
        if change[name] is None:
            if name in target:
                del target[name]
        else:
            target[name] = merged(target.get(name), change[name])
    return target


def is_int(value: Any) -> bool:
    """Tell a strict integer."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_strings(value: Any) -> bool:
    """Tell a list of strings."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def is_layout(value: Any) -> bool:
    """Tell a layout."""
    return (
        isinstance(value, dict)
        and value.keys() <= {"columns", "order"}
        and is_int(value.get("columns", 2))
        and is_strings(value.get("order", []))
    )


RULES: dict[str, dict[str, Callable[[Any], bool]]] = {
    "appearance": {
        "theme": lambda value: isinstance(value, str) and value in {"system", "light", "dark"},
        "font_size": lambda value: is_int(value) and 8 <= value <= 72,
        "tags": is_strings,
        "layout": is_layout,
        "extras": lambda value: isinstance(value, dict),
    },
    "editor": {
        "tab_size": lambda value: is_int(value) and 1 <= value <= 16,
        "font": lambda value: value is None or isinstance(value, str),
    },
    "notifications": {"email": lambda value: isinstance(value, bool)},
}


class Refused(Exception):  # noqa: N818  # the model's word, no error
    """The model does not take it."""


def edited(name: str, stored: dict[str, Any], edit: Edit) -> dict[str, Any]:
    """Return what an edit makes of a namespace's stored values."""
    match edit:
        case Replace(values):
            result = copy.deepcopy(dict(values))
        case Patch(values):
            result = copy.deepcopy(stored)
            for field, value in values.items():
                if value is None:
                    if name in RULES and field not in RULES[name]:
                        raise Refused
                    result.pop(field, None)
                else:
                    base = result.get(field, DEFAULTS[name].get(field))
                    result[field] = merged(base, value)
        case _:
            result = {}
    if name in RULES and not all(
        field in RULES[name] and RULES[name][field](result[field]) for field in result
    ):
        raise Refused
    return result


def applied(stored: dict[str, dict[str, Any]], mutation: Mutation) -> dict[str, dict[str, Any]]:
    """Return what a write makes of all stored values."""
    return {
        name: edited(name, stored[name], mutation.edits[name]) if name in mutation.edits else stored[name]
        for name in NAMES
    }


def shown(stored: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return stored values over the defaults."""
    return copy.deepcopy({name: {**DEFAULTS[name], **stored[name]} for name in NAMES})


# --- What is drawn ---------------------------------------------------------------------------------------------------

leaves = st.sampled_from([None, True, False, 0, 1, -7, 0.5, "", "x", "é\U0001f600", [], [1, None], {}])
trees = st.recursive(
    leaves,
    lambda inner: st.dictionaries(st.sampled_from(["", "a", "b", "~/"]), inner, max_size=3),
    max_leaves=4,
)
patch_values = {
    "appearance": st.fixed_dictionaries(
        {},
        optional={
            "theme": st.sampled_from(["light", "dark", "system", "wrong", None]),
            "font_size": st.sampled_from([8, 14, 72, 73, "14", True, None]),
            "tags": st.sampled_from([[], ["a"], ["a", "b"], [1], None]),
            "layout": st.sampled_from(
                [{}, {"columns": 3}, {"order": ["x"]}, {"columns": None}, {"columns": "3"}, [], None]
            ),
            "extras": st.dictionaries(st.sampled_from("abc"), trees, max_size=3) | st.none(),
            "nobody": st.sampled_from([1, None]),
        },
    ).filter(lambda values: "nobody" not in values or len(values) > 1),
    "editor": st.fixed_dictionaries(
        {},
        optional={
            "tab_size": st.sampled_from([2, 4, None, 1.5]),
            "font": st.sampled_from(["mono", "", None]),
        },
    ),
    "notifications": st.fixed_dictionaries({}, optional={"email": st.sampled_from([True, False, 1, None])}),
    "plugins": st.dictionaries(st.sampled_from(["", "a", "b", "c", "d/e"]), trees, max_size=3),
}
edits = {
    name: st.one_of(values.map(Patch), values.map(Patch), values.map(Replace), st.just(Reset()))
    for name, values in patch_values.items()
}
mutations = st.one_of(
    st.sampled_from(NAMES).flatmap(lambda name: edits[name].map(lambda edit: Mutation({name: edit}))),
    st.fixed_dictionaries({}, optional=edits).map(Mutation),
    st.fixed_dictionaries({}, optional=patch_values).map(
        lambda values: Mutation({name: Replace(values.get(name, {})) for name in NAMES})
    ),
    st.just(Mutation({name: Reset() for name in NAMES})),
)
processes = st.integers(0, 1)


class Machine(RuleBasedStateMachine):
    """Two processes on one backend, and one subject."""

    backend: Backend

    def __init__(self) -> None:
        super().__init__()
        backend = self.backend
        self.run = backend.run
        self.clock = backend.clock
        self.caches = [FailingCache(cache) for cache in backend.caches]
        self.processes = [
            Process(backend.repository, cache, backend.notifier, clock=self.clock, shared=True)
            for cache in self.caches
        ]

    @initialize()
    def begin(self) -> None:
        """Begin with a subject that nobody knows."""
        self.subject = new_subject()
        self.stored: dict[str, dict[str, Any]] = {name: {} for name in NAMES}
        self.revision = 0
        self.highest = 0
        self.seen: set[int] = {0}  # every revision of all lives
        self.views = {0: shown(self.stored)}  # what each revision of this life shows
        self.claimed: dict[str, tuple[Mutation, bytes, Snapshot]] = {}

    # Writes.

    def write(self, at: int, mutation: Mutation, **more: Any) -> Snapshot | None:
        """Write through the service and in the model, and see that both say the same."""
        service = self.processes[at].service
        try:
            expected = applied(self.stored, mutation)
        except Refused:
            with pytest.raises(InvalidPreferencesError):
                self.run(service.write(self.subject, mutation, **more))
            return None
        answer: Snapshot = self.run(service.write(self.subject, mutation, **more))
        if equal(expected, self.stored):
            assert answer.revision == self.revision
        else:
            assert answer.revision > self.highest
            assert answer.revision not in self.seen
            self.stored, self.revision = expected, answer.revision
            self.highest = answer.revision
            self.seen.add(answer.revision)
            self.views[answer.revision] = shown(expected)
        assert equal(answer.values, shown(expected))
        return answer

    @rule(at=processes, mutation=mutations)
    def change(self, at: int, mutation: Mutation) -> None:
        """Make a write."""
        self.write(at, mutation)

    @rule(at=processes, mutation=mutations, holds=st.booleans())
    def change_if(self, at: int, mutation: Mutation, holds: bool) -> None:  # noqa: FBT001  # hypothesis gives it
        """Make a write under a condition, which sees the newest state."""
        wanted = self.revision if holds else self.revision + 1
        expected = shown(self.stored)

        def condition(snapshot: Snapshot) -> None:
            if snapshot.revision != wanted:
                raise PreconditionFailedError("another state")
            assert equal(snapshot.values, expected)

        if holds:
            self.write(at, mutation, condition=condition)
        else:
            with pytest.raises(PreconditionFailedError):
                self.run(self.processes[at].service.write(self.subject, mutation, condition=condition))

    @rule(at=processes, mutation=mutations, key=st.sampled_from("xyz"))
    def change_once(self, at: int, mutation: Mutation, key: str) -> None:
        """Make a write under a key; one that was claimed answers as the first time or refuses."""
        digest = repr(mutation).encode()
        request = IdempotentRequest(key, digest)
        if key not in self.claimed:
            answer = self.write(at, mutation, request=request)
            if answer is not None:
                self.claimed[key] = (mutation, digest, answer)
        elif self.claimed[key][1] == digest:
            self.again(at, key)
        else:
            with pytest.raises(IdempotencyMismatchError):
                self.run(self.processes[at].service.write(self.subject, mutation, request=request))

    @precondition(lambda self: self.claimed)
    @rule(at=processes, key=st.sampled_from("xyz"))
    def again(self, at: int, key: str) -> None:
        """Repeat a write under its key: it is answered as the first time."""
        if key in self.claimed:
            mutation, digest, first = self.claimed[key]
            service = self.processes[at].service
            answer = self.run(service.write(self.subject, mutation, request=IdempotentRequest(key, digest)))
            assert answer.revision == first.revision
            assert equal(answer.values, first.values)
            assert answer.revisions == first.revisions

    @rule(at=processes)
    def erase(self, at: int) -> None:
        """Remove the subject."""
        self.run(self.processes[at].service.erase(self.subject))
        self.forget()

    def forget(self) -> None:
        """Remove the subject from the model."""
        self.stored = {name: {} for name in NAMES}
        self.revision = 0
        self.views = {0: shown(self.stored)}
        self.claimed = {}

    # Faults.

    @rule(at=processes, mutation=mutations, erases=st.integers(0, 5))
    def change_while_the_cache_is_away(self, at: int, mutation: Mutation, erases: int) -> None:
        """Write during an outage of the cache; afterwards, one look of the relay makes it good."""
        self.catch_up()
        for cache in self.caches:
            cache.is_down = True
        if erases == 0:
            with pytest.raises(UnavailableError):
                self.run(self.processes[at].service.erase(self.subject))
            self.forget()
        else:
            self.write(at, mutation)
        for cache in self.caches:
            cache.is_down = False
        if erases == 0:
            self.run(self.processes[at].service.erase(self.subject))
        self.catch_up()
        self.run(self.processes[1 - at].relay.look())

    def catch_up(self) -> None:
        """Let the clock be right again: the relay takes turns by it, and looks back five seconds and no more."""
        self.backend.latest = max(self.backend.latest, self.clock.now()) + 1_000
        self.clock.set(self.backend.latest)

    @rule(
        at=processes, payload=st.sampled_from([b"", b"[]", b"[1,2,3,4]", b"\xff", b'[1,0,{},{"appearance":'])
    )
    def read_a_corrupt_entry(self, at: int, payload: bytes) -> None:
        """Read while the cache gives back something else than was put into it."""
        self.caches[at].corrupt = lambda entry: CacheEntry(entry.version + 1, payload)
        answer = self.run(self.processes[at].service.read(self.subject))
        self.caches[at].corrupt = None
        assert equal(answer.values, shown(self.stored))

    @rule()
    def evict(self) -> None:
        """Drop the cached entry."""
        cache: Any = self.caches[0].inner
        if hasattr(cache, "_entries"):
            cache._entries.drop(self.subject)
        else:
            self.run(_delete(cache, self.subject))

    @rule(at=processes)
    def start_again(self, at: int) -> None:
        """Replace a process by one that remembers nothing."""
        repository, notifier = self.backend.repository, self.backend.notifier
        self.processes[at] = Process(repository, self.caches[at], notifier, clock=self.clock, shared=True)

    @rule(seconds=st.sampled_from([0.001, 0.4, 30]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @rule(ms=st.integers(1, 5_000))
    def turn_the_clock_back(self, ms: int) -> None:
        """Set the wall clock to an earlier time."""
        self.backend.latest = max(self.backend.latest, self.clock.now())
        self.clock.set(self.clock.now() - ms)

    # Reads.

    @rule(at=processes, choice=st.integers(0, 20))
    def read_at_least(self, at: int, choice: int) -> None:
        """Ask for a revision that was seen, of this life or an erased one, or for one that never was."""
        seen = [*sorted(self.seen), self.highest + 1]
        wanted = seen[choice % len(seen)]
        service = self.processes[at].service
        if wanted <= self.revision:
            answer = self.run(service.read(self.subject, at_least=wanted))
            assert equal(answer.values, shown(self.stored))
        else:
            with pytest.raises(PreconditionFailedError):
                self.run(service.read(self.subject, at_least=wanted))

    @rule(at=processes, choice=st.integers(0, 20), limit=st.integers(1, 3), nonsense=st.booleans())
    def follow(self, at: int, choice: int, limit: int, nonsense: bool) -> None:  # noqa: FBT001  # hypothesis gives it
        """Follow the feed from a revision to the newest, page by page."""
        feed = self.processes[at].feed
        seen = sorted(self.seen)
        since = seen[choice % len(seen)] + (nonsense and seen[-1] > 0)
        page: Page = self.run(feed.page(self.subject, since, limit=limit))
        if since not in self.views:
            assert page.reset is not None
            assert page.changes == ()
            assert equal(page.reset.values, shown(self.stored))
            assert page.revision == page.newest == self.revision
            return
        view = copy.deepcopy(self.views[since])
        while True:
            assert page.reset is None
            assert page.newest == self.revision
            assert len(page.changes) <= limit
            for change in page.changes:
                assert change.change.previous == since
                since = change.change.revision
                self.follow_one(view, change)
                assert equal(view, self.views[since])
            assert page.revision == since
            if not page.has_more:
                assert since == self.revision
                return
            page = self.run(feed.page(self.subject, since, limit=limit))

    @staticmethod
    def follow_one(view: dict[str, dict[str, Any]], change: Any) -> None:
        """Do what a client does with a change."""
        for name, values in change.changed.items():
            view[name].update(copy.deepcopy(values))
        for name, gone in change.removed.items():
            for field in gone:
                del view[name][field]

    @invariant()
    def reads_equal_the_model(self) -> None:
        """Every process reads what the model holds."""
        if hasattr(self, "subject"):
            for process in self.processes:
                answer = self.run(process.service.read(self.subject))
                assert answer.revision == self.revision
                assert equal(answer.values, shown(self.stored))

    def teardown(self) -> None:
        """See that the database itself holds what the model does."""
        if hasattr(self, "subject"):
            document = self.run(self.backend.repository.load(self.subject))
            assert equal(document.values, {name: values for name, values in self.stored.items() if values})
            assert document.revision == self.revision


EXAMPLES = {"memory": (80, 30), "sqlite": (20, 25), "postgres": (20, 25)}


def test_any_history_agrees_with_a_dictionary(backend: Backend, request: pytest.FixtureRequest) -> None:
    """No sequence of writes, reads, repeats, erases, faults and feed pages parts the service from a plain model."""
    examples, steps = EXAMPLES[request.node.callspec.params["backend"]]
    machine = type("MachineOn" + type(backend.repository).__name__, (Machine,), {"backend": backend})
    run_state_machine_as_test(machine, settings=profile(examples, stateful_step_count=steps))


async def _delete(cache: Any, subject: Any) -> None:
    await cache._link.client.gather("DEL", cache._prefix + subject.key)
