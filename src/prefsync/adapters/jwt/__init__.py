"""JSON Web Tokens, verified by PyJWT (extra ``jwt``) with a key that is settled or with an issuer's key set."""

from importlib.util import find_spec

from prefsync.errors import MissingExtraError

if find_spec("jwt") is None or find_spec("cryptography") is None:
    raise MissingExtraError("verifying JSON Web Tokens (prefsync.adapters.jwt)", "jwt")

from prefsync.adapters.jwt.jwks import JwksKeys
from prefsync.adapters.jwt.verifier import JwtVerifier

__all__ = ["JwksKeys", "JwtVerifier"]
