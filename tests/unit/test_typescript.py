"""What TypeScript is made of models, as text; that a compiler takes it is tested in tests/web/test_client.py."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from prefsync import ConfigurationError, OpenPreferences, Preferences
from prefsync.typescript import typescript
from tests.unit.typescript_models import HOSTILE, MODELS


class Wrapping(BaseModel):
    """How lines continue."""

    on: bool = False
    marker: str


class Editor(Preferences, namespace="editor"):
    """How text is edited."""

    theme: Literal["light", "dark"] = "light"
    """Of the text alone."""

    font_size: Annotated[int, Field(ge=8, le=72)] = 14
    wrapping: Wrapping | None = None


class Plugins(OpenPreferences, namespace="plugins"):
    """What plugins keep."""


EXPECTED = """\
// Made by prefsync from the app's models: do not edit, make it anew.

export type Json = string | number | boolean | null | Json[] | { [name: string]: Json };

/** Values by field, by namespace: what `connect` of the browser client takes. */
export interface UserPreferences {
  editor: Editor;
  plugins: Plugins;
}

/** How text is edited. */
export interface Editor {
  /**
   * Of the text alone.
   * @default "light"
   */
  theme: "light" | "dark";
  /**
   * Rules: at least 8, at most 72.
   * @default 14
   */
  font_size: number;
  /** @default null */
  wrapping: Wrapping | null;
}

/** What plugins keep. */
export interface Plugins {
  [name: string]: Json;
}

/** How lines continue. */
export interface Wrapping {
  /** @default false */
  on?: boolean;
  marker: string;
}
"""


def test_it_reads_well() -> None:
    """A namespace is an interface, a literal a union; descriptions, rules and defaults are comments."""
    assert typescript([Editor, Plugins]) == EXPECTED


def test_what_is_not_needed_is_left_out() -> None:
    """Where everything is typed, nothing else is declared."""
    assert "Json" not in typescript([Editor])


@pytest.mark.once
def test_it_is_the_same_in_every_process() -> None:
    """Whatever the order in which a process keeps its sets: so that a comparison finds what is stale, and no more."""
    code = (
        "import sys; from prefsync.typescript import typescript;"
        "from tests.unit.typescript_models import HOSTILE, MODELS;"
        "sys.stdout.buffer.write((typescript(MODELS) + typescript(HOSTILE)).encode())"
    )
    made = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in ("1", "2")
    }
    assert made == {(typescript(MODELS) + typescript(HOSTILE)).encode()}


def test_every_field_is_there() -> None:
    """Each field of each namespace is a member of its interface, under its name on the wire."""
    text = typescript(MODELS)
    body = text.partition("export interface Everything {")[2].partition("\n}")[0]
    fields = [info.alias or name for name, info in MODELS[0].model_fields.items()]
    assert re.findall(r"^  (\w+): ", body, re.MULTILINE) == fields


def test_nothing_gets_out_of_comments_and_names() -> None:
    """No description, name or value ends a comment or a line; each interface has a name of its own that is allowed."""
    text = typescript(HOSTILE)
    code = re.sub(r"/\*.*?\*/|\"(?:[^\"\\\n]|\\.)*\"", "", text, flags=re.DOTALL)
    assert "injected" in text
    assert "injected" not in code
    assert "\x00" not in text
    assert len(text.splitlines()) == text.count("\n")
    names = re.findall(r"^export (?:interface|type) (\S+)", text, re.MULTILINE)
    assert len(set(names)) == len(names)
    assert not {"class", "string"} & set(names)


def test_models_that_cannot_be_preferences_are_refused() -> None:
    """With the error that mounting them raises."""

    class Nameless(Preferences):
        """Names no namespace."""

    with pytest.raises(ConfigurationError, match="Nameless names no namespace"):
        typescript([Nameless])
