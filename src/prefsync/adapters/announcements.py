"""Announcements as bytes, for notifiers that send them over a wire."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from prefsync.document import Change, Subject
from prefsync.ports import Announcement
from prefsync.strictjson import decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["is_wanted", "key_of", "pack", "unpack"]

logger = logging.getLogger("prefsync")

# A message begins with the subject's key, so that a process without sessions of that subject reads no further.
_KEY_LENGTH: Final = len(Subject("x").key)

# How the announcement of an erase ends, and no other.
_ERASED: Final = b",true]"


def pack(announcement: Announcement) -> bytes:
    """Return an announcement as the subject's key and a JSON array, in UTF-8; what stands last there may be missing."""
    subject = announcement.subject
    change = announcement.change.to_json() if announcement.change else None
    members = [announcement.version, subject.tenant, subject.user, change]
    if announcement.erased:
        members += [announcement.trace, True]
    elif announcement.trace is not None:
        members.append(announcement.trace)
    return subject.key.encode() + encode(members)


def key_of(message: bytes) -> str:
    """Return the subject's key of a packed announcement, whatever else a message is."""
    return message[:_KEY_LENGTH].decode("latin-1")


def is_wanted(message: bytes, wanted: Callable[[str], bool] | None) -> bool:
    """Tell whether a packed announcement is to be read, by what a subscription says that it wants."""
    return wanted is None or wanted(key_of(message)) or message.endswith(_ERASED)


def unpack(message: bytes) -> Announcement | None:
    """Read an announcement; what is none, by another version of prefsync say, is passed over."""
    try:
        # A later version may say more than this one reads.
        version, tenant, user, change, *more = decode(message[_KEY_LENGTH:])
        subject = Subject(user, tenant)
        trace = more[0] if more and isinstance(more[0], str) else None
        known = None if change is None else Change(**change)
        return Announcement(subject, known, int(version), trace, erased=more[1:2] == [True])
    except (ValueError, TypeError):
        logger.warning("a message on the channel is no announcement; is another version of prefsync running?")
        return None
