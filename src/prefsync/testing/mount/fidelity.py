"""protocol.md, section 2, "Bodies": what is accepted comes back exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefsync.testing.mount.suite import MountSuite, label

if TYPE_CHECKING:
    from prefsync.testing.mount.callers import Caller
    from prefsync.testing.mount.client import MountHost

__all__ = ["FidelityContract"]


class FidelityContract(MountSuite):
    """Strings, numbers and states, through every process and from every store."""

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " both ends ",
            "\t\n\r\x0b\x1f\x7f\x80\x9f",
            "caf\u00e9 / cafe\u0301",
            "\u212b \u00c5 A\u030a \ufb01 \u1e9e",
            "<script>alert('&amp;')</script>",
            "\\u0041 \\\\ \" ' `${x}`",
            "\u2028\u2029\u00a0\u200b\u200d\u202e\ufeff\ufffd\ufffe\uffff",
            "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0010ffff \U00010000",
        ],
        ids=label,
    )
    async def test_strings_are_kept_code_point_for_code_point(
        self, me: Caller, unlimited: Caller, text: str
    ) -> None:
        """Nothing is normalised, trimmed or escaped, in values and in names, whether cached or stored."""
        value = {"text": text, "list": [text], f"name {text}": {text: text}}
        wrote = await me.put("/plugins", value)
        assert wrote.ok() == value
        for reader in (me, me.through(unlimited.client)):
            assert (await reader.get("/plugins")).ok() == value
        muted = {"muted_channels": [text, text]}
        assert (await me.patch("/notifications", muted)).ok()["muted_channels"] == [text, text]

    @pytest.mark.parametrize(
        ("token", "value"),
        [
            ("0", 0),
            ("-0", 0),
            ("-0.0", 0),
            ("1.0", 1),
            ("1e2", 100),
            ("1E+2", 100),
            ("0.1", 0.1),
            ("0.30000000000000004", 0.30000000000000004),
            ("1e-7", 1e-7),
            ("123456789012345.6", 123456789012345.6),
            ("9007199254740991", 9007199254740991),
            ("-9007199254740991", -9007199254740991),
            ("9007199254740993.0", 9007199254740992),
            ("1e16", 1e16),
            ("1e21", 1e21),
            ("1e22", 1e22),
            ("1.2345678901234567e+300", 1.2345678901234567e300),
            ("1.7976931348623157e308", 1.7976931348623157e308),
            ("5e-324", 5e-324),
            ("2.2250738585072014e-308", 2.2250738585072014e-308),
            ("1e-400", 0),
            ("0." + "0" * 400 + "1", 0),
        ],
    )
    async def test_numbers_are_doubles(self, me: Caller, unlimited: Caller, token: str, value: float) -> None:
        """They come back as the same double, and as the same bytes through every process."""
        wrote = await me.put("/plugins", raw=b'{"n":%b}' % token.encode())
        shown = wrote.ok()["n"]
        assert not isinstance(shown, bool)
        assert float(shown) == value
        for reader in (me, me.through(unlimited.client)):
            read = await reader.get("/plugins")
            assert read.body == wrote.body
            assert read.etag == wrote.etag

    async def test_members_may_come_in_any_order(self, me: Caller, unlimited: Caller) -> None:
        """Two spellings of one state have one body and one entity tag, through every process."""
        first = await me.put("/plugins", raw=b'{"b":1,"a":{"y":[2,1],"x":null},"c":"\\u00e9"}')
        second = await me.put("/plugins", raw='{"c":"é","a":{"x":null,"y":[2,1]},\n"b":1}'.encode())
        assert (second.body, second.etag, second.revision) == (first.body, first.etag, first.revision)
        assert (await me.through(unlimited.client).get("/plugins")).body == first.body

    async def test_a_read_sees_every_acknowledged_write(
        self, host: MountHost, me: Caller, unlimited: Caller
    ) -> None:
        """A read that starts after a write was acknowledged sees it, through whichever process."""
        there = me.through(unlimited.client)
        for n in range(8):
            writer, reader = (there, me) if host.is_linked and n % 2 else (me, there)
            wrote = await writer.patch("/appearance", {"font_size": 10 + n})
            read = await reader.get("/appearance")
            assert (read.body, read.revision) == (wrote.body, wrote.revision)
