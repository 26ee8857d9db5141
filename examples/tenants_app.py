"""Two tenants on one FastAPI app, whose users sign in at an OpenID Connect issuer.

    python examples/tenants_app.py

It starts the issuer (``tenants_issuer.py``), which stands for Keycloak, Entra ID or Auth0, then the app, and prints lines
to paste: ``alice`` of acme and ``alice`` of globex are two people, and neither ever sees what the other has set.

The app knows the issuer by its name alone. It finds the keys by discovery, takes tokens that are meant for it and no
others, and reads the tenant from the claim ``tid``; a token without one is refused.
"""

from __future__ import annotations

import argparse

import uvicorn
from example_models import Appearance, Notifications
from fastapi import FastAPI
from tenants_issuer import TENANTS, Issuer

from prefsync import Settings
from prefsync_fastapi import CurrentPreferences, PrefSync

AUDIENCE = "https://api.example.com/preferences"


def make_app(issuer: str, **settings: str) -> FastAPI:
    """Return the app; with your issuer, the same as ``PREFSYNC_...`` variables."""
    prefsync = PrefSync(
        [Appearance, Notifications],
        settings=Settings.from_mapping(
            {
                "PREFSYNC_JWT_ISSUER": issuer,
                "PREFSYNC_JWT_DISCOVERY": "true",
                "PREFSYNC_JWT_ALGORITHMS": "ES256",
                "PREFSYNC_JWT_AUDIENCE": AUDIENCE,
                "PREFSYNC_JWT_TENANT_CLAIM": "tid",
                "PREFSYNC_JWT_PROFILE": "at+jwt",
                **settings,
            }
        ),
    )
    app = FastAPI(title="prefsync with tenants")
    app.include_router(prefsync.router, prefix="/preferences")

    @app.get("/greeting")
    async def greeting(prefs: CurrentPreferences) -> str:
        """The app's own code gets the handle of the caller inside his tenant."""
        return f"Welcome to the {(await prefs.get(Appearance)).theme} side."

    return app


def main() -> None:
    """Start both, and say how to talk to them."""
    parser = argparse.ArgumentParser(description="Run two tenants and their issuer on this machine.")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--issuer-port", type=int, default=8001)
    options = parser.parse_args()
    with Issuer(AUDIENCE, options.issuer_port) as issuer:
        url = f"http://127.0.0.1:{options.port}/preferences/appearance"
        for tenant in TENANTS:
            print(f"\n# alice of {tenant}")
            print(f'TOKEN=$(curl -s {issuer.url}/token -d username=alice -d tenant={tenant} | cut -d\\" -f4)')
            print(f'curl -s -X PATCH {url} -H "Authorization: Bearer $TOKEN" \\')
            print('     -H "Content-Type: application/json" -d \'{"theme": "dark"}\'')
            print(f'curl -s {url} -H "Authorization: Bearer $TOKEN"', flush=True)
        uvicorn.run(make_app(issuer.url), port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
