"""A front end in plain JavaScript, without a build step, on a Flask app whose users sign in with a cookie.

    flask --app examples/plain_js_app run

Open http://127.0.0.1:5000 in two windows, sign in under one name, and change something in either. The page is
``plain_page/index.html``: a form, and thirty lines that bind each of its fields to a preference.

The app's own session says who calls, so there are no tokens. What stands here in place of a log-in takes anybody at his
word; everything else is as a real app has it.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from example_models import Appearance, Editor, Notifications
from flask import Flask, Response, abort, redirect, request, session

from prefsync_flask import PrefSync

if TYPE_CHECKING:
    from werkzeug import Response as BaseResponse

app = Flask(__name__, static_folder="plain_page", static_url_path="/page")
app.secret_key = os.environ.get("SECRET_KEY") or secrets.token_hex(32)  # several workers need one key
app.config.update(SESSION_COOKIE_SAMESITE="Lax", SESSION_COOKIE_HTTPONLY=True)


def signed_in() -> str | None:
    """Tell prefsync who calls; nobody gets a 401."""
    user: str | None = session.get("user")
    return user


PrefSync(app, [Appearance, Editor, Notifications], authenticate=signed_in)


@app.get("/")
def page() -> Response:
    """Serve the page, to whomever."""
    return app.send_static_file("index.html")


@app.get("/me")
def me() -> dict[str, str | None]:
    """Tell the page who is signed in: the client keeps each user's unsent changes apart."""
    return {"user": signed_in()}


@app.post("/sign-in")
def sign_in() -> BaseResponse:
    """Stand for your own log-in, which asks for a password, too."""
    session["user"] = request.form["user"].strip() or abort(400)
    return redirect("/")


@app.post("/sign-out")
def sign_out() -> BaseResponse:
    """End the session."""
    session.clear()
    return redirect("/")
