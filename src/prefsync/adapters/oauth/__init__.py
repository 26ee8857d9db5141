"""What all verifiers of OAuth 2.0 access tokens share, and those that need nothing but the standard library."""

from prefsync.adapters.oauth.claims import VerifiedToken
from prefsync.adapters.oauth.introspection import IntrospectionVerifier
from prefsync.adapters.oauth.issuers import IssuersVerifier

__all__ = ["IntrospectionVerifier", "IssuersVerifier", "VerifiedToken"]
