"""Subjects, documents and their order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsync import Identity, Subject
from prefsync.document import Change, Document
from prefsync.testing.samples import EXACT_VALUES, HOSTILE_SUBJECTS

# What ids are confused by: separators, prefixes of tenants, lengths, look-alikes.
ids = st.one_of(
    st.text(alphabet="ab:t/\\\"'{}0\u00e9e\u0301 ", min_size=1, max_size=6),
    st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=255),
)
subjects = st.builds(Subject, ids, st.none() | ids)


@given(subjects, subjects)
def test_keys_are_the_same_just_where_subjects_are(one: Subject, other: Subject) -> None:
    """No two subjects have one key, whatever their ids are made of."""
    assert (one.key == other.key) == (one == other)


@given(ids, ids)
def test_no_way_to_cut_two_ids_apart_gives_the_same_key(one: str, other: str) -> None:
    """Text moved between user and tenant, or a tenant written into the user, makes another subject."""
    variants = {
        (one, other),
        (other, one),
        (f"t{one}", None),
        *[(f"{one}{glue}{other}"[:255], None) for glue in ("", ":", "/", "\u200b", "t")],
        *[(f"{other}{glue}{one}"[:255], None) for glue in ("", ":", "/", "\u200b", "t")],
        (one, None),
        (other, None),
    }
    assert len({Subject(*variant).key for variant in variants}) == len(variants)


@given(subjects)
def test_a_key_is_plain_and_gives_nothing_away(subject: Subject) -> None:
    """A key is 20 characters that are safe in any cache, channel or header, and the same each time."""
    assert len(subject.key) == 20
    assert set(subject.key) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert Subject(subject.user, subject.tenant).key == subject.key


def test_the_hostile_subjects_are_all_different() -> None:
    """The samples of the test kit are pairwise different, so that mixing two up is seen."""
    assert (
        len(set(HOSTILE_SUBJECTS))
        == len({subject.key for subject in HOSTILE_SUBJECTS})
        == len(HOSTILE_SUBJECTS)
    )


@pytest.mark.parametrize(
    ("user", "tenant"),
    [
        ("", None),
        ("a", ""),
        ("x" * 256, None),
        ("a", "x" * 256),
        ("\x00", None),
        ("a\nb", None),
        ("a", "\x7f"),
        ("\x9f", None),
        ("\ud800", None),
        ("a\udfffb", None),
        (None, None),
        (7, None),
        (b"a", None),
        ("a", 7),
        (True, None),
    ],
)
def test_ids_that_break_the_rules_are_refused(user: object, tenant: object) -> None:
    """An empty id, one with more than 255 characters, with control characters, or no string at all is no id."""
    with pytest.raises(ValueError, match="the (user|tenant)"):
        Subject(user, tenant)  # type: ignore[arg-type]  # on purpose


def test_ids_are_kept_as_they_are() -> None:
    """Nothing is trimmed or normalised."""
    for user in (" a ", "cafe\u0301", "\u200b", "\U0010ffff", "x" * 255):
        assert Subject(user, user).user == user
        assert Subject(user, user).tenant == user


def test_documents_are_in_order_through_an_erase() -> None:
    """The version rises with every write and with an erase, and no write takes a revision that was used."""
    first = Document(100, {"a": {}}, {"a": 100})
    erased = Document(floor=101)
    assert Document().version < first.version < erased.version
    assert first.next_revision(50) == 101
    assert first.next_revision(100) == 101
    assert first.next_revision(5_000) == 5_000
    assert erased.next_revision(50) == 102
    assert Document().next_revision(0) == 1


def test_a_document_comes_back_from_its_encoding() -> None:
    """Whatever a document holds, decoding its encoding gives the same document."""
    for document in [
        Document(),
        Document(floor=2**53 - 1),
        Document(5, {"plugins": EXACT_VALUES}, {"plugins": 5, "gone": 3}, 2),
    ]:
        decoded = Document.decode(document.encode())
        assert decoded.encode() == document.encode()
        assert (decoded.revision, decoded.floor, decoded.revisions) == (
            document.revision,
            document.floor,
            document.revisions,
        )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"[1,2,{}]",
        b"[1,2,{},{},5]",
        b"[1,2,[],{}]",
        b'["1",2,{},{}]',
        b"[1.5,2,{},{}]",
        b"[1,2,{},{}",
        b"[1,2,{},{}]x",
        b"\xff\xfe",
        b"[1,2,{},{}]\xff",
        b"[1,2,null,{}]",
        bytes(range(256)),
    ],
)
def test_what_is_no_encoded_document_is_said_to_be_none(data: bytes) -> None:
    """Bytes of another version, or corrupt ones, raise ``ValueError`` and nothing else."""
    with pytest.raises(ValueError):  # noqa: PT011  # any of them: a caller takes it for a miss
        Document.decode(data)


def test_an_identity_may_what_its_scopes_say() -> None:
    """Without scopes everything is allowed, with them what they name and no more."""
    subject = Subject("a")
    assert Identity(subject).may("preferences:write")
    assert Identity(subject, frozenset({"preferences:read"})).may("preferences:read")
    assert not Identity(subject, frozenset({"preferences:read"})).may("preferences:write")
    assert not Identity(subject, frozenset()).may("")


def test_a_change_travels_without_what_it_replaced() -> None:
    """What a notifier sends is the change, but not the values of before."""
    change = Change(2, 1, 5, "tab", {"a": {"x": 1}}, {"a": ["y"]}, {"a": {"x": 0, "y": 0}})
    assert change.to_json() == {
        "revision": 2,
        "previous": 1,
        "at": 5,
        "origin": "tab",
        "assigned": {"a": {"x": 1}},
        "unset": {"a": ["y"]},
    }
