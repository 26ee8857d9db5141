"""Devices of users': browsers with nothing in common, their tabs, each with a client, and what asks without a browser."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import httpx2

from tests.browser.gate import LIMIT, Gate, token
from tests.http.conftest import NO_TLS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

# What a browser says of a network that fails, whoever asked for it; pages cannot keep it from that.
_NETWORK: Final = re.compile(
    r"Failed to load resource: (net::ERR_\w+|the server responded with a status of (403|503) \([\w ]+\))$"
    r"|WebSocket connection to '[^']+' failed"
)


class Tab:
    """A page with a client.

    Attributes:
        page: The page, at ``page/index.html`` behind the gate.
        sent: The edits that it has sent over WebSockets, also those that it sent again.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.sent: list[dict[str, Any]] = []
        page.on("websocket", lambda socket: socket.on("framesent", self._note))

    def start(self, user: str, **options: Any) -> Tab:
        """Connect in a user's name; options are those of ``connect``."""
        self.page.evaluate("(options) => start(options)", {"user": user, **options})
        return self

    def set(self, namespace: str, **fields: Any) -> float:
        """Edit, and return when that was, in milliseconds of the machine's clock."""
        at: float = self.page.evaluate("([namespace, fields]) => set(namespace, fields)", [namespace, fields])
        return at

    def get(self, namespace: str) -> dict[str, Any]:
        """Return what the client has of a namespace."""
        values: dict[str, Any] = self.page.evaluate("(namespace) => prefs.get(namespace)", namespace)
        return values

    def await_value(self, namespace: str, **fields: Any) -> float:
        """Wait until the client has values, and return when it was told of its newest change."""
        self.wait(
            """([namespace, fields]) => Object.entries(fields).every(
                ([name, value]) => JSON.stringify(prefs.get(namespace)[name]) == JSON.stringify(value))""",
            [namespace, fields],
        )
        at: float = self.page.evaluate("told.findLast(({ event }) => event == 'change')?.at")
        return at

    def await_status(self, status: str = "online", transport: str | None = None, pending: int = 0) -> None:
        """Wait until the client says that it stands so; no transport: any."""
        self.wait(
            """([status, transport, pending]) => prefs.status == status && prefs.pending == pending
                && (!transport || prefs.transport == transport)""",
            [status, transport, pending],
        )

    def wait(self, condition: str, argument: Any = None) -> None:
        """Wait until something is so in the page."""
        self.page.wait_for_function(condition, arg=argument, timeout=LIMIT * 1000)

    def told(self, event: str) -> list[dict[str, Any]]:
        """Return what it was told of some kind."""
        events: list[dict[str, Any]] = self.page.evaluate(
            "(kind) => told.filter(({ event }) => event == kind)", event
        )
        return events

    def _note(self, frame: str | bytes) -> None:
        message = json.loads(frame)
        if message["type"] == "patch":
            self.sent.append(message["patch"])


class Device:
    """A browser of its own: what it stores, no other device has.

    Args:
        browser: Where it runs.
        gate: Where its pages come from.
        script: What runs in each page before all else.

    Attributes:
        context: The browser's own handle.
        complaints: What its pages wrote to the console or failed at, but for what the browser says of the network.
    """

    def __init__(self, browser: Browser, gate: Gate, script: str = "") -> None:
        self.context: BrowserContext = browser.new_context()
        self.complaints: list[str] = []
        self._gate = gate
        self.context.on("console", self._note)
        self.context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        if script:
            self.context.add_init_script(script)

    def tab(self, *, is_clock_ours: bool = False) -> Tab:
        """Open a tab; where its clock is ours, it can be wound forward."""
        page = self.context.new_page()
        if is_clock_ours:
            page.clock.install()
        failed: list[str] = []
        page.on("requestfailed", lambda request: failed.append(f"{request.url}: {request.failure}"))
        tab = Tab(page)
        page.goto(f"{self._gate.url}/page/")
        assert page.evaluate("globalThis.isReady"), failed  # its script has run when it has loaded
        return tab

    def _note(self, message: ConsoleMessage) -> None:
        if not _NETWORK.match(message.text):
            self.complaints.append(f"{message.type}: {message.text}")


class Elsewhere:
    """A user, somewhere else: asks the server itself, past the gate.

    Args:
        url: The server's.
        user: Whose preferences they are.
    """

    def __init__(self, url: str, user: str) -> None:
        headers = {"Authorization": f"Bearer {token(user)}"}
        self._client = httpx2.Client(
            base_url=f"{url}/preferences", headers=headers, verify=NO_TLS, trust_env=False
        )

    def patch(self, namespace: str, **fields: Any) -> None:
        """Change preferences."""
        self._client.patch(f"/{namespace}", json=fields).raise_for_status()

    def values(self, namespace: str) -> dict[str, Any]:
        """Return the effective values of a namespace."""
        values: dict[str, Any] = self._client.get(f"/{namespace}").raise_for_status().json()
        return values

    def writes(self) -> list[dict[str, Any]]:
        """Return what each accepted write has changed, oldest first."""
        page = self._client.get("/changes", params={"since": 0}).raise_for_status().json()
        assert not page["reset"]
        assert not page["has_more"]
        return [change["changed"] for change in page["changes"]]

    def close(self) -> None:
        """Close its connections."""
        self._client.close()
