"""Fuzzing of the parser and the sanitizer, guided by coverage (Atheris): ``python -m tests.fuzz 60``.

Whatever the bytes are, a body is refused as malformed or for what stands in it, or is stored and comes back the same. It
begins with the catalogue of hostile JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["prefsync"]):
    from prefsync.document import Document
    from prefsync.errors import InvalidPreferencesError, MalformedError
    from prefsync.http.bodies import mutation_from
    from prefsync.http.frames import FrameError, read_frame
    from prefsync.schema import Schema
    from prefsync.strictjson import Limits, canonical, decode, digestible, encode, equal, parse, problems_in

from prefsync.testing.hostile_json import HOSTILE_JSON
from tests.unit.support import MODELS

LIMITS = Limits()
SCHEMA = Schema(MODELS)

PLACES = (None, "plugins", "appearance")

LONGEST = 4_096
"""Bytes of a body: larger ones say nothing new of the parser and take their time."""


def fuzz_one(body: bytes) -> None:
    """Try one body in every way; raise where a promise is broken."""
    _as_frame(body)
    try:
        value = parse(body)
    except MalformedError:
        return
    assert equal(value, value)
    for method in ("PUT", "PATCH"):
        for place in PLACES:
            _as_request(method, place, value)
    if not problems_in(value, LIMITS):
        _is_kept(body, value)


def _as_frame(body: bytes) -> None:
    try:
        read_frame(body.decode("utf-8", "surrogatepass"), LIMITS.body)
    except (FrameError, UnicodeDecodeError):
        return


def _as_request(method: str, place: str | None, value: Any) -> None:
    errors = []
    try:
        mutation = mutation_from(method, place, value, SCHEMA, LIMITS)
        mutation.apply(SCHEMA, Document(), LIMITS)
    except InvalidPreferencesError as error:
        errors = error.errors
    for one in errors:
        one.pointer.encode()
        json.dumps([one.code, one.detail])


def _is_kept(body: bytes, value: Any) -> None:
    """Check that a value is what the standard library reads, and survives being stored."""
    assert _is_finite(value)
    assert equal(value, json.loads(body.decode()))
    form = canonical(value)
    assert equal(form, value)
    stored = decode(encode(form))
    assert equal(stored, form)
    assert encode(canonical(stored)) == encode(form), "one state has one text"
    assert digestible(stored) == digestible(value)


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def main() -> None:
    """Fuzz for so many seconds, and print how much was tried; a body that breaks a promise is written to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", nargs="?", type=int, default=60)
    parser.add_argument("--body", type=Path, help="try this file's bytes and no others")
    chosen = parser.parse_args()
    if chosen.body is not None:
        fuzz_one(chosen.body.read_bytes())
        return
    with tempfile.TemporaryDirectory() as corpus:
        for number, case in enumerate(case for cases in HOSTILE_JSON.values() for case in cases):
            if len(case.body) <= LONGEST:
                (Path(corpus) / str(number)).write_bytes(case.body)
        found = Path(tempfile.gettempdir()) / "prefsync-fuzz-"
        options = [f"-max_total_time={chosen.seconds}", f"-max_len={LONGEST}", "-print_final_stats=1"]
        options.append(f"-artifact_prefix={found}")
        sys.stdout.write(f"fuzzing for {chosen.seconds} s from {time.strftime('%H:%M:%S')}{os.linesep}")
        sys.stdout.flush()
        atheris.Setup([sys.argv[0], *options, corpus], fuzz_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
