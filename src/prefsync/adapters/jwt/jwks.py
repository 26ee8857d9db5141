"""An issuer's key set (RFC 7517): fetched beside the requests, kept through its outages, renewed when it rotates."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import jwt

from prefsync.adapters.jwt.keys import RSA_BITS, KeySource
from prefsync.adapters.oauth.flights import Flights
from prefsync.adapters.oauth.http import IssuerError, IssuerHttp
from prefsync.clock import Clock, SystemClock
from prefsync.errors import ConfigurationError, UnavailableError
from prefsync.strictjson import digestible
from prefsync.urls import check_secure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from types import TracebackType

__all__ = ["JwksKeys"]

logger = logging.getLogger("prefsync")

# Seconds between two fetches while nobody asks for a key that is not there. PyJWKClient keeps a set for 300 s.
_RENEWAL: Final = 240.0

# Seconds between two fetches that unknown keys cause: else each hostile token would be a request to the issuer.
_LEAST_BETWEEN: Final = 30.0

# Seconds for which keys go on that the issuer could not be asked about: a night and a morning.
_OUTAGE: Final = 24 * 3_600.0

# Seconds from a fetch that failed to the next one, and the most that they grow to.
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 15.0

# Large providers publish fewer than ten; each that fits is tried.
_MOST_KEYS: Final = 100
_MOST_TRIED: Final = 8

_ONLY: Final = "keys"

_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")

# Which algorithms the keys of a type, and of its curve, are good for (RFC 7518, section 3.1; RFC 8037, section 3.1). None
# are shared secrets: a secret in a key set that everybody can read is none.
_ALGORITHMS: Final[dict[tuple[str, object], tuple[str, ...]]] = {
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("EC", "secp256k1"): ("ES256K",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("OKP", "Ed448"): ("EdDSA",),
}


@dataclass(frozen=True, slots=True)
class _Key:
    """A key as the issuer published it; the same where its text is."""

    text: bytes
    kid: str | None = field(compare=False)
    algorithms: frozenset[str] = field(compare=False)
    key: Any = field(compare=False, repr=False)

    def fits(self, algorithm: str, kid: str | None) -> bool:
        """Tell whether it may have signed a token with such a header."""
        return algorithm in self.algorithms and (kid is None or self.kid is None or kid == self.kid)


class JwksKeys(KeySource):
    """The keys that an issuer publishes.

    They are fetched in the background, every few minutes, and once more, at most every 30 s, for a token that none of
    them has signed. While the issuer is out of reach, the last known ones go on for a day.

    Args:
        url: Where they are; or what finds it out before each fetch.
        http: Asks the issuer.
        renewal: Seconds between two fetches.
        least_between: Seconds between two fetches that unknown keys cause.
        outage: Seconds for which keys go on that the issuer could not be asked about.
        clock: For tests.

    Raises:
        ConfigurationError: The URL is none that can be trusted.
    """

    def __init__(
        self,
        url: str | Callable[[], Awaitable[str]],
        *,
        http: IssuerHttp | None = None,
        renewal: float = _RENEWAL,
        least_between: float = _LEAST_BETWEEN,
        outage: float = _OUTAGE,
        clock: Clock | None = None,
    ) -> None:
        if isinstance(url, str):
            try:
                check_secure(url)
            except ValueError as error:
                raise ConfigurationError(f"the key set's URL cannot be used: {error}") from None
        self._url = url
        self._http = http or IssuerHttp()
        self._renewal = renewal
        self._least_between = least_between
        self._outage = outage
        self._clock = clock or SystemClock()
        self._flights: Flights[None] = Flights()
        self._keys: frozenset[_Key] | None = None
        self._confirmed_at = self._asked_at = 0.0
        self._is_failing = False
        self._renewing: asyncio.Task[None] | None = None
        self.generation = 0

    async def __aenter__(self) -> Self:
        self._flights = Flights()  # a forked process would wait for its parent's for ever
        self._renewing = asyncio.create_task(self._renew(), name="prefsync-keys")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewing
            self._renewing = None
        await self._flights.aclose()

    def check(self, algorithms: Sequence[str]) -> None:
        for name in algorithms:
            if name.startswith("HS"):
                raise ConfigurationError(
                    f"PREFSYNC_JWT_ALGORITHMS: {name} needs a shared secret, and a key set holds public keys; name what"
                    " the issuer signs with, RS256 say"
                )

    async def find(self, algorithm: str, kid: str | None) -> Sequence[Any]:
        if self._keys is None and not self._is_failing:
            await self._fetch()
        if self._keys is None or self._clock.monotonic() - self._confirmed_at > self._outage:
            raise UnavailableError("issuer")
        return self._fitting(algorithm, kid)

    async def look_again(self, algorithm: str, kid: str | None) -> Sequence[Any]:
        known = self._keys
        if kid is not None and any(key.kid == kid for key in known or ()):
            return ()  # the key that it names has not signed it
        if (
            self._flights.is_under_way(_ONLY)
            or self._clock.monotonic() - self._asked_at >= self._least_between
        ):
            await self._fetch()
        elif self._is_failing:
            raise UnavailableError("issuer")  # which may have that key by now
        return () if self._keys == known else self._fitting(algorithm, kid)

    def _fitting(self, algorithm: str, kid: str | None) -> list[Any]:
        found = [key.key for key in self._keys or () if key.fits(algorithm, kid)]
        return found[:_MOST_TRIED]

    async def _renew(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._fetch()
            except UnavailableError:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                pause = _FIRST_PAUSE
                await asyncio.sleep(self._renewal)

    async def _fetch(self) -> None:
        """Fetch the keys, or wait until they are fetched for somebody else.

        Raises:
            UnavailableError: They cannot be.
        """
        await self._flights.share(_ONLY, self._fetch_now)

    async def _fetch_now(self) -> None:
        self._asked_at = self._clock.monotonic()
        try:
            url = self._url if isinstance(self._url, str) else await self._url()
            keys = read_key_set(await self._http.get(url))
        except Exception as error:
            if not self._is_failing:
                known = "none is known" if self._keys is None else "the last known ones go on"
                reason = error.reason if isinstance(error, IssuerError) else repr(error)
                logger.warning("the issuer's keys cannot be fetched, %s: %s", known, reason)
            self._is_failing = True
            raise UnavailableError("issuer") from error
        if self._is_failing:
            logger.warning("the issuer's keys can be fetched again")
        self._is_failing = False
        self._confirmed_at = self._clock.monotonic()
        if self._keys is not None and not self._keys <= keys:
            self.generation += 1
        self._keys = keys


def read_key_set(document: dict[str, Any]) -> frozenset[_Key]:
    """Return the keys of a key set that can verify signatures.

    Others are left out, as RFC 7517, section 5, asks: for encryption, of unknown types, broken or too weak ones.

    Raises:
        IssuerError: It is no key set.
    """
    entries = document.get("keys")
    if not isinstance(entries, list) or len(entries) > _MOST_KEYS:
        raise IssuerError(f"the key set has no list of keys, or more than {_MOST_KEYS}")
    keys = {key for entry in entries if isinstance(entry, dict) and (key := _read_key(entry)) is not None}
    if entries and not keys:
        logger.warning("the issuer's key set holds no key that can verify a token")
    return frozenset(keys)


def _read_key(entry: dict[str, Any]) -> _Key | None:
    kid = entry.get("kid")
    algorithms = frozenset(_usable(entry))
    if not algorithms or not isinstance(kid, str | None):
        return None
    if "d" in entry:
        logger.error("the issuer publishes a private key; it is not used")
        return None
    try:
        text, key = digestible(entry), jwt.PyJWK(entry, min(algorithms)).key
    except Exception as error:  # noqa: BLE001  # a broken key raises whatever the libraries below think of
        logger.warning("a key of the issuer's cannot be read: %s", type(error).__name__)
        return None
    if entry["kty"] == "RSA" and key.key_size not in RSA_BITS:
        logger.warning("an RSA key of the issuer's has %d bits; it is not used", key.key_size)
        return None
    return _Key(text, kid, algorithms, key)


def _usable(entry: dict[str, Any]) -> Sequence[str]:
    """Return the algorithms that a key may verify, by its type, curve, ``use``, ``key_ops`` and ``alg``."""
    kind, operations = entry.get("kty"), entry.get("key_ops", ["verify"])
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return ()
    if not isinstance(kind, str) or not isinstance(entry.get("crv", ""), str):
        return ()
    able = _RSA if kind == "RSA" else _ALGORITHMS.get((kind, entry.get("crv")), ())
    return able if "alg" not in entry else [name for name in able if name == entry["alg"]]
