"""Announcements as bytes, for notifiers that send them over a wire."""

from __future__ import annotations

import logging
from typing import Final

from prefsync.document import Change, Subject
from prefsync.ports import Announcement
from prefsync.strictjson import decode, encode

__all__ = ["key_of", "pack", "unpack"]

logger = logging.getLogger("prefsync")

# A message begins with the subject's key, so that a process without sessions of that subject reads no further.
_KEY_LENGTH: Final = len(Subject("x").key)


def pack(announcement: Announcement) -> bytes:
    """Return an announcement as the subject's key and a JSON array, in UTF-8."""
    subject = announcement.subject
    change = announcement.change.to_json() if announcement.change else None
    return subject.key.encode() + encode([announcement.version, subject.tenant, subject.user, change])


def key_of(message: bytes) -> str:
    """Return the subject's key of a packed announcement, whatever else a message is."""
    return message[:_KEY_LENGTH].decode("latin-1")


def unpack(message: bytes) -> Announcement | None:
    """Read an announcement; what is none, by another version of prefsync say, is passed over."""
    try:
        version, tenant, user, change = decode(message[_KEY_LENGTH:])
        subject = Subject(user, tenant)
        return Announcement(subject, None if change is None else Change(**change), int(version))
    except (ValueError, TypeError):
        logger.warning("a message on the channel is no announcement; is another version of prefsync running?")
        return None
