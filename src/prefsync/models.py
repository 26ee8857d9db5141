"""The bases of what a host declares: a namespace is a pydantic model."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue, RootModel

if TYPE_CHECKING:
    # The class of pydantic's classes has no public name; at run time it is asked of a model.
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)

__all__ = ["OpenPreferences", "Preferences", "PreferencesModel"]


class _WithNamespace(ModelMetaclass):
    """Takes ``namespace="..."`` from the class statement; pydantic's own metaclass has a parameter of that name."""

    def __new__(
        mcs,
        name: str,
        bases: tuple[type, ...],
        body: dict[str, Any],
        /,
        *,
        namespace: str | None = None,
        **kwargs: Any,
    ) -> type:
        cls: Any = super().__new__(mcs, name, bases, body, **kwargs)
        cls.namespace_name = namespace
        return cls  # type: ignore[no-any-return]  # the class that is being made

    def __init__(cls, *args: Any, namespace: str | None = None, **kwargs: Any) -> None:  # noqa: N805  # a metaclass
        del namespace  # __new__ has it
        super().__init__(*args, **kwargs)


class Preferences(BaseModel, metaclass=_WithNamespace):
    """Base of a typed namespace: every field has a default, types are strict, undeclared fields are refused.

    Example:
        ```python
        class Appearance(Preferences, namespace="appearance"):
            theme: Literal["system", "light", "dark"] = "system"
        ```
    """

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)
    namespace_name: ClassVar[str | None] = None

    if TYPE_CHECKING:
        # What the metaclass takes, for type checkers, which look for the arguments of a class statement here.
        def __init_subclass__(cls, *, namespace: str | None = None, **kwargs: Any) -> None: ...


class OpenPreferences(  # type: ignore[no-untyped-call]  # pydantic's own __init_subclass__ has no types
    RootModel[dict[str, JsonValue]], MutableMapping[str, JsonValue], metaclass=_WithNamespace
):
    """Base of an open namespace: any JSON under any name, within the limits, for what the host cannot know in advance.

    Example:
        ```python
        class Plugins(OpenPreferences, namespace="plugins"):
            ...
        ```
    """

    root: dict[str, JsonValue] = Field(default_factory=dict)
    namespace_name: ClassVar[str | None] = None

    if TYPE_CHECKING:

        def __init_subclass__(cls, *, namespace: str | None = None, **kwargs: Any) -> None: ...

    def __getitem__(self, name: str) -> JsonValue:
        """Return the value under a name."""
        return self.root[name]

    def __setitem__(self, name: str, value: JsonValue) -> None:
        """Keep a value under a name."""
        self.root[name] = value

    def __delitem__(self, name: str) -> None:
        """Take a name away."""
        del self.root[name]

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]  # a mapping's iteration, not a model's
        """Iterate over the names."""
        return iter(self.root)

    def __len__(self) -> int:
        """Count the names."""
        return len(self.root)


PreferencesModel: TypeAlias = type[Preferences | OpenPreferences]
