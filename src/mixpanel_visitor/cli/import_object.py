"""ImportSpec: an object of the application, named as servers name it, `shop.main:app`."""

from __future__ import annotations

import ast
import contextlib
import importlib
import string
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from mixpanel_visitor.spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType


_DOTTED = frozenset(string.ascii_letters + string.digits + "_.")


class ImportSpec(NamedTuple):
    """What to import: the default name, an example, a description for messages, and a test for the object.

    `alternatives` are names to try where the default one is missing; a factory's name has its brackets.
    """

    default: str
    example: str
    description: str
    accepts: Callable[[object], bool]
    alternatives: tuple[str, ...] = ()


def load(target: str, spec: ImportSpec) -> object:
    """Import MODULE:NAME, from the working directory as well; return the object.

    NAME may be a call with literal arguments, `create_app("test")`: then a factory's result. Raise UsageError
    for a name that does not exist, ClickException (with its `__cause__`) where module or factory fails.
    """
    module_name, _, path = target.partition(":")
    module = _import(module_name, spec.example)
    if not path:
        names = (spec.default, *spec.alternatives)
        path = next((name for name in names if hasattr(module, name.partition("(")[0])), spec.default)
    call = _call(path)
    value: object = module
    for name in (path if call is None else ast.unparse(call.func)).split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            members = getattr(value, "__dict__", {})
            candidates = [name for name, member in members.items() if spec.accepts(member)]
            hint = did_you_mean(name, candidates) or (
                f"; it has {', '.join(candidates)}" if candidates else ""
            )
            raise click.UsageError(f"{module_name} has no {name!r}{hint}") from None
    if call is not None:
        value = _call_factory(value, call, f"{module_name}:{path}")
    if not spec.accepts(value):
        hint = ""
        if call is None and callable(value) and not isinstance(value, type):
            hint = f"; if it makes one, write {module_name}:{path}()"
        raise click.UsageError(f"{target} is no {spec.description}, but a {type(value).__name__}{hint}")
    return value


def _call(path: str) -> ast.Call | None:
    """Read `create_app("test", debug=True)`, as flask and gunicorn do; None: it is a plain name."""
    if "(" not in path:
        return None
    try:
        expression = ast.parse(path, mode="eval").body
        if not (isinstance(expression, ast.Call) and set(ast.unparse(expression.func)) <= _DOTTED):
            raise ValueError  # noqa: TRY301
        for each in (*expression.args, *(keyword.value for keyword in expression.keywords)):
            ast.literal_eval(each)
    except (SyntaxError, ValueError):
        raise click.UsageError(
            f"{path!r} is neither a name nor a call with plain values, such as create_app('test')"
        ) from None
    return expression


def _call_factory(factory: object, call: ast.Call, target: str) -> object:
    arguments = [ast.literal_eval(each) for each in call.args]
    keywords = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    if not callable(factory):
        raise click.UsageError(f"{target}: that is a {type(factory).__name__}, which cannot be called")
    try:
        return factory(*arguments, **keywords)
    except Exception as error:
        raise click.ClickException(f"{target} failed: {type(error).__name__}: {error}") from error


def _import(name: str, example: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise click.UsageError(f"{name!r} is no module; give MODULE:NAME, such as {example}")
    with _working_directory_importable():
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise click.ClickException(f"{name} cannot be imported: {error}") from error
            raise click.UsageError(
                f"there is no module {name!r} here; give one that Python can import from this directory, "
                f"such as {example}"
            ) from error
        except Exception as error:
            raise click.ClickException(
                f"{name} cannot be imported: {type(error).__name__}: {error}"
            ) from error


@contextlib.contextmanager
def _working_directory_importable() -> Iterator[None]:
    """Make the modules of the working directory importable, as `python -m` does."""
    directory = str(Path.cwd())
    sys.path.insert(0, directory)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(directory)
