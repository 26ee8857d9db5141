"""A front end in React and TypeScript, built by Vite, on a FastAPI app; the compiler knows every preference.

    npm ci --prefix examples/react_page && npm run build --prefix examples/react_page && python examples/react_app.py

Open http://127.0.0.1:8000/?user=alice in two windows, and change something in either. While you work on the page, run
``npm run dev`` beside this instead of the build.

``react_page/src/prefs.ts`` is all that a React app needs: the client and a hook. The types in ``react_page/src/prefsync``
are written by ``python examples/react_app.py --types``, from the models; a test fails when they are stale.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import time
from importlib.resources import as_file, files
from pathlib import Path

import jwt
import uvicorn
from example_models import Appearance, Notifications
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from prefsync.typescript import typescript
from prefsync_fastapi import PrefSync

PAGE = Path(__file__).parent / "react_page"
MODELS = [Appearance, Notifications]
KEY = os.environ.setdefault("PREFSYNC_JWT_KEY", secrets.token_urlsafe(48))

prefsync = PrefSync(MODELS)
app = FastAPI(title="prefsync in React")
app.include_router(prefsync.router, prefix="/preferences")


@app.post("/token/{user}")
async def token(user: str) -> str:
    """Stand for your own log-in: sign a token for whomever, good for five minutes."""
    claims = {"sub": user, "exp": int(time.time()) + 300, "scope": "preferences:read preferences:write"}
    return jwt.encode(claims, KEY, algorithm="HS256")


app.mount("/", StaticFiles(directory=PAGE / "dist", html=True, check_dir=False))


def write_types(folder: Path) -> None:
    """Write the types of the client, and those of this app's preferences."""
    with as_file(files("prefsync") / "web" / "client.d.ts") as types:
        shutil.copy(types, folder / "client.d.ts")
    (folder / "preferences.ts").write_text(typescript(MODELS), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] == ["--types"]:
        write_types(PAGE / "src" / "prefsync")
    else:
        uvicorn.run(app, log_level="warning")
