"""Sign-up: the user's row and their first preferences are written in one transaction, or neither is.

    PREFSYNC_JWT_KEY=... uvicorn --app-dir examples signup_app:app
    curl -X POST localhost:8000/sign-up -H 'Content-Type: application/json' -d '{"name": "Anna", "theme": "dark"}'

Users and preferences live in one database, that of ``PREFSYNC_DATABASE_URL``.
"""

from __future__ import annotations

import sys
import uuid
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import String
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from prefsync import Parts, Settings
from prefsync.adapters.sqlalchemy import SqlAlchemyRepository
from prefsync_fastapi import PrefSync

sys.path.append(str(Path(__file__).parent))  # for whoever imports this file from elsewhere
from example_models import Appearance, Notifications

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Base(DeclarativeBase):
    """The app's own tables."""


class User(Base):
    """Somebody who has signed up."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)


class SignUp(BaseModel):
    """What the form on the sign-up page sends."""

    name: str
    theme: Literal["system", "light", "dark"] = "system"
    newsletter: bool = False


settings = Settings.from_environment()
engine = create_async_engine(
    settings.database_url.replace("sqlite:", "sqlite+aiosqlite:", 1).replace(
        "postgresql:", "postgresql+asyncpg:", 1
    )
)
new_session = async_sessionmaker(engine, expire_on_commit=False)
prefsync = PrefSync([Appearance, Notifications], parts=Parts(repository=SqlAlchemyRepository(engine)))


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Create the app's own tables; prefsync sees to its own."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


async def session() -> AsyncIterator[AsyncSession]:
    """Open a session for a request."""
    async with new_session() as session:
        yield session


app = FastAPI(title="sign-up example", lifespan=lifespan)
app.include_router(prefsync.router, prefix="/preferences")


@app.post("/sign-up", status_code=201)
async def sign_up(form: SignUp, session: Annotated[AsyncSession, Depends(session)]) -> dict[str, str]:
    """Create a user with the preferences that the form asks for."""
    user = User(id=uuid.uuid4().hex, name=form.name)
    session.add(user)
    async with prefsync.within(session) as preferences:
        mine = preferences.of(user.id)
        await mine.update(Appearance, theme=form.theme)
        await mine.update(Notifications, digest="weekly" if form.newsletter else "off")
    try:
        await session.commit()  # both, or neither
    except IntegrityError:
        raise HTTPException(409, "this name is taken") from None
    return {"id": user.id}
