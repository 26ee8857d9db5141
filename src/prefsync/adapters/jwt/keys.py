"""Which key may have signed a token: one that the host has settled."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import jwt

from prefsync.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

__all__ = ["RSA_BITS", "FixedKey", "KeySource", "check_algorithms"]

# RFC 7518, section 3.2: a key of the size of the hash output or larger must be used.
_SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}

# "aaaa..." is as long as one likes and as good as none.
_DIFFERENT_CHARACTERS: Final = 8

# RFC 7518, section 3.3, asks for the least; beyond the most, verifying one token takes milliseconds.
RSA_BITS: Final = range(2_048, 16_384 + 1)


class KeySource(Protocol):
    """Where the keys come from that tokens are verified with.

    Attributes:
        generation: Grows whenever a key is withdrawn: what was verified before may have been signed with that one.
    """

    generation: int

    @abstractmethod
    def check(self, algorithms: Sequence[str]) -> None:
        """Raise ``ConfigurationError`` where keys of this source cannot go with these algorithms."""

    @abstractmethod
    async def find(self, algorithm: str, kid: str | None) -> Sequence[Any]:
        """Return the keys that may have signed a token with this header, in PyJWT's form.

        Raises:
            UnavailableError: They have to be asked for, and cannot be.
        """

    @abstractmethod
    async def look_again(self, algorithm: str, kid: str | None) -> Sequence[Any]:
        """Do the same after all that was found has failed, with what is newest.

        Raises:
            UnavailableError: They have to be asked for, and cannot be.
        """

    async def __aenter__(self) -> Self:
        """Open what the source needs."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        return


@dataclass(eq=False)
class FixedKey(KeySource):
    """One key.

    Attributes:
        text: A shared secret for the HS algorithms, else a public key in PEM.
    """

    text: str
    generation = 0

    def __post_init__(self) -> None:
        self._key: Any = None

    def check(self, algorithms: Sequence[str]) -> None:
        is_pem = "-----BEGIN" in self.text
        symmetric = [name for name in algorithms if name.startswith("HS")]
        if symmetric and is_pem:
            raise ConfigurationError(
                f"PREFSYNC_JWT_KEY is a PEM key, which {symmetric[0]} would take for a secret; name"
                f" its algorithm in PREFSYNC_JWT_ALGORITHMS, RS256 say"
            )
        if not symmetric and not is_pem:
            raise ConfigurationError(
                f"{algorithms[0]} needs a public key in PREFSYNC_JWT_KEY, in PEM (-----BEGIN PUBLIC KEY-----)"
            )
        if symmetric:
            _check_secret(self.text, max(_SECRET_BYTES[name] for name in symmetric))
        elif "PRIVATE KEY" in self.text:
            raise ConfigurationError(
                "PREFSYNC_JWT_KEY is a private key; tokens are verified with the public one"
            )
        self._key = _prepared(self.text, algorithms)

    async def find(self, algorithm: str, kid: str | None) -> Sequence[Any]:
        del algorithm, kid  # there is no other
        return (self._key,)

    async def look_again(self, algorithm: str, kid: str | None) -> Sequence[Any]:
        del algorithm, kid
        return ()


def check_algorithms(algorithms: Sequence[str]) -> tuple[str, ...]:
    """Return algorithms that may stand beside one another.

    Raises:
        ConfigurationError: They may not.
    """
    known = set(jwt.algorithms.get_default_algorithms()) - {"none"}
    for name in algorithms:
        if name not in known:
            raise ConfigurationError(
                f"PREFSYNC_JWT_ALGORITHMS: the token algorithm {name!r} is not supported; choose of"
                f" {', '.join(sorted(known))}"
            )
    symmetric = [name for name in algorithms if name.startswith("HS")]
    if not algorithms or (symmetric and len(symmetric) != len(algorithms)):
        # RFC 8725, section 3.1: a public key taken for a shared secret is the classic forgery.
        raise ConfigurationError(
            "PREFSYNC_JWT_ALGORITHMS must be of one kind: HS* with a shared secret, or the others with a public key"
        )
    return tuple(algorithms)


def _check_secret(secret: str, needed: int) -> None:
    advice = 'make one with: python -c "import secrets; print(secrets.token_urlsafe(48))"'
    if len(secret.encode()) < needed:
        raise ConfigurationError(
            f"PREFSYNC_JWT_KEY: the token secret has {len(secret.encode())} bytes, RFC 7518 asks"
            f" for {needed} or more; {advice}"
        )
    if len(set(secret)) < _DIFFERENT_CHARACTERS:
        raise ConfigurationError(
            f"PREFSYNC_JWT_KEY: the token secret is one that anybody can guess; {advice}"
        )


def _prepared(text: str, algorithms: Sequence[str]) -> Any:
    """Parse the key once; given as text, PyJWT would parse it for each token. It must fit each of the algorithms."""
    known = jwt.algorithms.get_default_algorithms()
    key: Any = None
    for name in algorithms:
        try:
            key = known[name].prepare_key(text)
        except (ValueError, TypeError, jwt.PyJWTError) as error:
            raise ConfigurationError(f"PREFSYNC_JWT_KEY cannot be read as one for {name}: {error}") from None
        if name.startswith(("RS", "PS")) and key.key_size not in RSA_BITS:
            raise ConfigurationError(
                f"PREFSYNC_JWT_KEY: the RSA key has {key.key_size} bits, RFC 7518 asks for {RSA_BITS.start} or more"
            )
    return key
