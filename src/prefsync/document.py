"""The values that everything else passes around: a subject, its document, a change. Pure, without I/O."""

from __future__ import annotations

import unicodedata
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from prefsync.strictjson import canonical, decode, encode

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from pydantic import JsonValue

    NamespaceValues: TypeAlias = Mapping[str, JsonValue]
    Values: TypeAlias = Mapping[str, NamespaceValues]
__all__ = ["Change", "Document", "Identity", "Snapshot", "Subject", "footprint"]

# protocol.md section 2, "Tokens": as long as OpenID Connect Core 1.0, section 2, allows a `sub` to be.
MAX_ID_LENGTH: Final = 255

# In how many orders of members a namespace's values are known by their text: as stored, as shown, as clients send them.
_MOST_TEXTS: Final = 4


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose preferences they are: a user, inside an optional tenant. Compared byte for byte, nothing is normalised.

    Attributes:
        user: Non-empty, at most 255 characters, without control characters.
        tenant: The same, or ``None`` where the host has no tenants.
        key: Names the subject in caches, channels and limits: the same for no two subjects, whatever characters their
            ids hold, and it gives no id away.

    Raises:
        ValueError: An id breaks these rules.
    """

    user: str
    tenant: str | None = None
    key: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_id("user", self.user)
        if self.tenant is not None:
            _check_id("tenant", self.tenant)
        # Each part is preceded by its length: no choice of ids makes two subjects run together.
        parts = ("" if self.tenant is None else "t" + self.tenant, self.user)
        digest = blake2b(digest_size=15)
        for part in parts:
            raw = part.encode()
            digest.update(len(raw).to_bytes(4))
            digest.update(raw)
        object.__setattr__(self, "key", urlsafe_b64encode(digest.digest()).decode())


def _check_id(what: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise ValueError(f"the {what} must be a non-empty string")
    if len(value) > MAX_ID_LENGTH:
        raise ValueError(f"the {what} has more than {MAX_ID_LENGTH} characters")
    if not value.isprintable() and any(unicodedata.category(char) in {"Cc", "Cs"} for char in value):
        raise ValueError(f"the {what} holds a control character or half a surrogate pair")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls, as verified.

    Attributes:
        subject: Whose preferences the caller may touch.
        scopes: What the caller may do; ``None`` means everything (the host's own authentication decided).
        expires_at: When the proof runs out, leeway included, in seconds since 1970; ``None``: never.
        revoked_by: What the proof can be revoked by, the digest of a token say; what is opened by it ends with it.
    """

    subject: Subject
    scopes: frozenset[str] | None = None
    expires_at: float | None = None
    revoked_by: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def of(cls, caller: object) -> Identity:
        """Return whom a host's own authentication named.

        Args:
            caller: A user's id, a ``Subject`` or an ``Identity``.

        Raises:
            TypeError: It is something else.
        """
        match caller:
            case Identity():
                return caller
            case Subject():
                return cls(caller)
            case str():
                return cls(Subject(caller))
            case _:
                mend = "; where nobody is signed in, raise HTTPException(401)" if caller is None else ""
                raise TypeError(
                    "authenticate must return a user id (str), a Subject or an Identity,"
                    f" not {type(caller).__name__}{mend}"
                )

    def may(self, scope: str) -> bool:
        """Tell whether the caller holds a scope."""
        return self.scopes is None or scope in self.scopes


@dataclass(frozen=True, slots=True)
class Document:
    """What a subject has set, as it is stored.

    Attributes:
        revision: Of the last write; 0 where nothing is stored.
        values: Stored values by namespace and field, in canonical form; a default is never among them.
        revisions: Of each namespace that was ever written.
        floor: The highest revision that an erase has used up; the next write goes beyond it.
        shown: What a schema found out about namespaces, by model: their effective values, and whether all that is
            stored fits.
    """

    revision: int = 0
    values: Values = field(default_factory=dict)
    revisions: Mapping[str, int] = field(default_factory=dict)
    floor: int = 0
    _values_json: bytes | None = field(default=None, init=False, repr=False, compare=False)
    _revisions_json: bytes | None = field(default=None, init=False, repr=False, compare=False)
    _texts: dict[str, tuple[bytes, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    shown: dict[Hashable, tuple[dict[str, JsonValue], bool]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def values_json(self) -> bytes:
        """The stored values as compact JSON; written once, because size, database and cache all need it."""
        if (written := self._values_json) is None:
            written = encode(self.values)
            object.__setattr__(self, "_values_json", written)
        return written

    def has(self, namespace: str, values: NamespaceValues) -> bool:
        """Tell whether just these values are stored of a namespace, whatever the order of their members."""
        stored = self.values.get(namespace)
        if stored != values:  # in Python more is equal than in JSON, never less
            return False
        text = encode(values)
        texts = self._texts.get(namespace, ())
        if text in texts:
            return True
        is_same = encode(canonical(values)) == encode(stored)
        if is_same and len(texts) < _MOST_TEXTS:
            self._texts[namespace] = (*texts, text)
        return is_same

    @property
    def revisions_json(self) -> bytes:
        """The namespaces' revisions as compact JSON; written once."""
        if (written := self._revisions_json) is None:
            written = encode(self.revisions)
            object.__setattr__(self, "_revisions_json", written)
        return written

    def learn_from(self, before: Document) -> None:
        """Take over what was worked out about the namespaces that are the same as before."""
        for name, texts in before._texts.items():
            if self.values.get(name) is before.values.get(name):
                self._texts[name] = texts

    def is_known_to_fit(self, model: Hashable) -> bool:
        """Tell whether a model was seen to take all that is stored of its namespace."""
        found = self.shown.get(model)
        return found is not None and found[1]

    @property
    def version(self) -> int:
        """What orders all states of a subject, an erased one included: no older state may replace a newer one."""
        return max(self.revision, self.floor)

    def next_revision(self, now: int) -> int:
        """Return the revision of a write at a time (ms since 1970) upon this document."""
        return max(self.version + 1, now)

    def encode(self) -> bytes:
        """Write the document for a cache."""
        return b"[%d,%d,%b,%b]" % (self.revision, self.floor, self.revisions_json, self.values_json)

    @classmethod
    def decode(cls, data: bytes) -> Document:
        """Read what :meth:`encode` wrote.

        Raises:
            ValueError: The bytes are something else, by another version of prefsync for example.
        """
        match decode(data):
            case [int(revision), int(floor), dict(revisions), dict(values)]:
                return cls(revision, values, revisions, floor)
            case _:
                raise ValueError("this is no encoded document")


def footprint(length: int) -> int:
    """Return how many bytes a document takes in memory, about, with what is worked out of it.

    Args:
        length: Of its JSON, in bytes.
    """
    return 1_300 + 6 * length  # measured: 4.7 KB where the JSON has 600 bytes


@dataclass(frozen=True, slots=True)
class Change:
    """One accepted write, as it is logged: in stored values, so that any schema can present it.

    Attributes:
        revision: Of the state that the write left.
        previous: The revision before it, 0 for the first.
        at: When, in ms since 1970.
        origin: The name the client gives itself.
        assigned: The fields it set, with their new stored values.
        unset: The fields whose stored values it took away.
        replaced: What was stored in all of these before; a field that is missing here was not stored.
    """

    revision: int
    previous: int
    at: int
    origin: str | None = None
    assigned: Values = field(default_factory=dict)
    unset: Mapping[str, list[str]] = field(default_factory=dict)
    replaced: Values = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return all but what was replaced, for a notifier's message."""
        return {
            "revision": self.revision,
            "previous": self.previous,
            "at": self.at,
            "origin": self.origin,
            "assigned": self.assigned,
            "unset": self.unset,
        }


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A document as a schema shows it: stored values laid over the defaults.

    Attributes:
        subject: Whose it is.
        revision: The subject's revision.
        schema: The schema's tag.
        values: Effective values: every declared namespace, every declared field.
        revisions: Of each namespace; 0 for one that was never written.
        stale: The database is out of reach and this came from the cache.
    """

    subject: Subject
    revision: int
    schema: str
    values: Values
    revisions: Mapping[str, int]
    stale: bool = False

    def encode(self) -> bytes:
        """Return it as bytes, without whose it is and how it was found."""
        return encode([self.revision, self.schema, self.revisions, self.values])

    @classmethod
    def decode(cls, subject: Subject, encoded: bytes) -> Snapshot:
        """Return what :meth:`encode` made bytes of."""
        parts: Any = decode(encoded)
        revision, schema, revisions, values = parts
        return cls(subject, revision, schema, values, revisions)
