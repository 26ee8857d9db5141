"""What is accepted comes back exactly; what is refused is refused at a place in what was sent."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsync.errors import InvalidPreferencesError, MalformedError
from prefsync.merge import Mutation, Patch, Replace
from prefsync.strictjson import FORBIDDEN_NAMES, MAX_INTEGER, Limits, equal, parse, pointer, problems_in
from prefsync.testing.samples import EXACT_VALUES
from tests.properties.backends import Backend, profile
from tests.unit.support import Process, new_subject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefsync.document import Subject
    from prefsync.errors import FieldError

pytestmark = pytest.mark.once

EXAMPLES = {"memory": 200, "sqlite": 60, "postgres": 60}

numbers = st.one_of(
    st.integers(-(2**60), 2**60),
    st.sampled_from([0, MAX_INTEGER, -MAX_INTEGER, MAX_INTEGER + 1, -MAX_INTEGER - 1, 10**30]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([-0.0, 1.0, 1e16, 1e21, 1e22, 1e23, 5e-324, 2.0**53, 2.0**53 + 2]),
)
strings = st.one_of(
    st.text(max_size=12),
    st.text(st.characters(max_codepoint=0x2FF), max_size=4),
    st.text(st.sampled_from('\x00\x1f\x7f\ud800\udfff\u2028\ufeff\U0001f600e\u0301~/"\\'), max_size=4),
)
names = st.one_of(
    strings, st.sampled_from([*sorted(FORBIDDEN_NAMES), "", "a/b", "m~n", "~1", "0", "n" * 129])
)
harmless = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers.filter(lambda n: isinstance(n, float)), st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, strings),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=15,
)


@st.composite
def nested(draw: st.DrawFn) -> Any:
    """A value in a few more containers than are allowed, or a few fewer."""
    value = draw(anything)
    for _ in range(draw(st.integers(8, 18))):
        value = [value] if draw(st.booleans()) else {"x": value}
    return value


objects = st.one_of(
    st.dictionaries(names, anything, max_size=5),
    st.dictionaries(st.text(max_size=5), harmless, max_size=5),
    st.dictionaries(names, nested(), max_size=2),
)


@st.composite
def bodies(draw: st.DrawFn, values: st.SearchStrategy[Any] = objects) -> bytes:
    """The text of an object in one of the ways that JSON allows."""
    value = draw(values)
    try:
        return json.dumps(
            value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1]))
        ).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


def resolve(body: Any, place: str) -> Iterator[Any]:
    """Yield what stands at each step of a pointer into a body; ``LookupError`` where nothing does."""
    yield body
    for step in place.split("/")[1:]:
        members = (
            body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
        )
        found = [item for name, item in members if pointer(name) == "/" + step]
        if not found:
            raise LookupError(place)
        body = found[0]
        yield body


def check_places(body: Any, errors: list[FieldError]) -> None:
    """Check that there is an error, and that each stands at a place in the body or where a member is missing."""
    assert errors
    for error in errors:
        place = error.pointer.rpartition("/")[0] if error.code == "missing" else error.pointer
        assert list(resolve(body, place))


def identical(one: Any, other: Any) -> bool:
    """Compare as strictly as the protocol promises, independently of :func:`prefsync.strictjson.equal`."""
    match one, other:
        case dict(), dict():
            return one.keys() == other.keys() and all(identical(one[name], other[name]) for name in one)
        case list(), list():
            return len(one) == len(other) and all(map(identical, one, other))
        case (bool(), _) | (_, bool()) | (str(), _) | (_, str()) | (None, _) | (_, None):
            return type(one) is type(other) and one == other
        case (int() | float(), int() | float()):
            return one == other and math.copysign(1, other) > 0 if one == 0 else one == other
        case _:
            return False


class Store:
    """Two processes on one backend, and a third with nothing remembered and nothing cached."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.writer = Process(backend.repository, backend.caches[0])
        self.reader = Process(backend.repository, backend.caches[1])

    def check(self, values: Any) -> None:
        """Write an object into an open namespace and read it back in every way, or see it refused."""
        submitted = {"plugins": values}
        subject = new_subject()
        try:
            written = self.backend.run(
                self.writer.service.write(subject, Mutation({"plugins": Replace(values)}))
            )
        except InvalidPreferencesError as error:
            check_places(submitted, error.errors)
            assert problems_in(values, Limits(), at=("plugins",))
            assert self.backend.run(self.reader.service.read(subject)).revision == 0
            return
        uncached = Process(self.backend.repository)
        answers = [written, *(self.backend.run(one.service.read(subject)) for one in (self.reader, uncached))]
        for answer in answers:
            assert identical(values, answer.values["plugins"])
            assert equal(values, answer.values["plugins"])
            assert answer.revision == (written.revision)
        if values:
            page = self.backend.run(self.reader.feed.page(subject, 0))
            assert identical(values, page.changes[0].changed["plugins"])
        self.repeat(subject, values, written.revision)

    def repeat(self, subject: Subject, values: Any, revision: int) -> None:
        """Write the same again, by a process that knows it only from the database: nothing changes."""
        other = Process(self.backend.repository)
        again = self.backend.run(other.service.write(subject, Mutation({"plugins": Replace(values)})))
        assert again.revision == revision


def test_what_is_accepted_comes_back_exactly(backend: Backend, request: pytest.FixtureRequest) -> None:
    """Whatever the parser lets through is stored and read back exactly, or refused with places that resolve."""
    store = Store(backend)

    @given(bodies())
    @profile(EXAMPLES[request.node.callspec.params["backend"]])
    def check(body: bytes) -> None:
        value = parse(body)
        if problems := problems_in(value):
            check_places(value, problems)
        else:
            store.check(value)

    check()


def test_values_that_went_wrong_elsewhere_come_back_exactly(backend: Backend) -> None:
    """Each value that some database or cache is known to change comes back as it was sent."""
    store = Store(backend)
    for value in EXACT_VALUES.values():
        store.check({"value": value, "list": [value]})


@given(
    st.one_of(
        bodies(anything),
        st.binary(max_size=40),
        st.text(st.sampled_from('{}[]",:0123e-.tru \\ \x00a'), max_size=30).map(str.encode),
    )
)
@profile(500)
def test_the_parser_agrees_with_the_standard_library_or_refuses(body: bytes) -> None:
    """What is parsed is what the standard library makes of it, and what it cannot read is malformed."""
    try:
        value = parse(body)
    except MalformedError:
        return
    problems = problems_in(value)
    if problems:
        check_places(value, problems)
    else:
        assert equal(value, json.loads(body.decode()))


appearance = st.fixed_dictionaries(
    {},
    optional={
        "theme": st.sampled_from(["dark", "light", "wrong", 1, None]),
        "font_size": st.one_of(st.integers(0, 80), st.sampled_from([14.0, True, "14", None])),
        "tags": st.one_of(st.lists(st.sampled_from(["a", "", 1, None, ["a"]]), max_size=4), st.just({})),
        "layout": st.one_of(
            st.fixed_dictionaries(
                {},
                optional={
                    "columns": st.sampled_from([1, "1", 1.5]),
                    "order": st.lists(st.sampled_from(["a", 2]), max_size=3),
                    "un/declared~": st.just(1),
                },
            ),
            st.just([]),
        ),
        "extras": st.dictionaries(st.text(max_size=3), harmless, max_size=3),
        "nobody": st.just(1),
        "no/body~": st.just(1),
    },
)


@given(appearance, st.booleans())
@profile(100)
def test_refusals_of_typed_values_point_into_what_was_sent(values: dict[str, Any], replaces: bool) -> None:  # noqa: FBT001  # hypothesis gives it
    """Every error of a typed namespace stands at a place in the body, and the refused write left nothing."""
    with Backend() as backend:
        process, subject = Process(backend.repository), new_subject()
        edit = Replace(values) if replaces else Patch(values)
        try:
            answer = backend.run(process.service.write(subject, Mutation({"appearance": edit})))
        except InvalidPreferencesError as error:
            check_places({"appearance": values}, error.errors)
            assert backend.run(process.service.read(subject)).revision == 0
        else:
            shown = answer.values["appearance"]
            assert all(
                identical(value, shown[name])
                for name, value in values.items()
                if value is not None and name != "layout"
            )


def test_minus_zero_comes_back_as_zero(backend: Backend) -> None:
    """The sign of zero is the one thing that is lost, and every backend loses it."""
    process, subject = Process(backend.repository, backend.caches[0]), new_subject()
    backend.run(process.patch(subject, "plugins", zero=-0.0, deep=[{"zero": -0.0}]))
    for reader in (process, Process(backend.repository)):
        values = backend.run(reader.service.read(subject)).values["plugins"]
        assert math.copysign(1, values["zero"]) == 1
        assert math.copysign(1, values["deep"][0]["zero"]) == 1
