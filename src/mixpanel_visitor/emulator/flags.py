"""Flags: the feature flags of the local project, for servers that evaluate, and for browsers that ask.

Definitions come from a file, or from the page. A switch on the page has precedence over a flag's rules: it
changes the definition that is served, so that servers and browsers see the same.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import orjson

from mixpanel_visitor.core.flags.definitions import NO_DEFINITIONS, read_answer
from mixpanel_visitor.core.flags.evaluator import DEVICE_ID, DISTINCT_ID, FlagContext, select

from .http import Reply, error_reply, json_reply
from .payload import PayloadError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mixpanel_visitor.core.flags.definitions import Definitions, SelectedVariant

    from .http import Request

RULES, OFF = "rules", "off"
"""What a switch says, if it does not name a variant: go by the rules; show the flag to nobody."""

MAX_KEY_CHARS = 255


class FlagFileError(ValueError):
    """The file with definitions holds none."""


class LocalFlags:
    """Definitions and switches. `file` holds Mixpanel's answer, or its list of flags, and may change."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._stamp: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self._entries: list[Any] = []
        self._switches: dict[str, str] = {}
        self._served: tuple[bytes, str, Definitions] | None = None
        self.problem = ""
        if file is not None:
            self._read_file(file)

    def served(self) -> tuple[bytes, str, Definitions]:
        """Return the answer to servers, its ETag, and what is in it."""
        with self._lock:
            self._read_changed_file()
            if self._served is None:
                entries = [self._switched(entry) for entry in self._entries]
                body = _definitions_body(entries)
                etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
                self._served = body, etag, read_answer(body, NO_DEFINITIONS)
            return self._served

    def variants(self, context: Mapping[str, Any]) -> dict[str, SelectedVariant]:
        """Return the variants of somebody by flag; who has no `device_id` is known by the `distinct_id`."""
        ids = {name: value for name, value in context.items() if name != "custom_properties"}
        ids[DEVICE_ID] = ids.get(DEVICE_ID) or ids.get(DISTINCT_ID)
        flag_context = FlagContext(ids, lambda: context.get("custom_properties"))
        selected = {key: select(flag, flag_context) for key, flag in self.served()[2].flags.items()}
        return {key: variant for key, variant in selected.items() if variant is not None}

    def listed(self) -> dict[str, Any]:
        """Return what the page shows: each flag, its variants, and how its switch stands."""
        _, _, definitions = self.served()
        flags = [
            {
                "key": flag.key,
                "assigned_by": flag.assigned_by,
                "variants": [{"key": variant.key, "value": variant.value} for variant in flag.variants],
                "switch": self._switches.get(flag.key, RULES),
            }
            for flag in definitions.flags.values()
        ]
        return {"flags": flags, "malformed": definitions.malformed, "problem": self.problem}

    def switch(self, key: str, choice: str) -> None:
        """Show a variant to everybody, none (`OFF`), or go by the rules; raise KeyError for no such one."""
        flag = self.served()[2].flags[key]
        if choice not in (RULES, OFF) and choice not in [variant.key for variant in flag.variants]:
            raise KeyError(choice)
        with self._lock:
            self._switches[key] = choice
            self._served = None

    def put(self, entry: Mapping[str, Any]) -> None:
        """Add a definition, or replace that of the same key."""
        with self._lock:
            others = [each for each in self._entries if _key(each) != entry.get("key")]
            self._entries = [*others, entry]
            self._served = None

    def _read_changed_file(self) -> None:
        if self._file is None:
            return
        try:
            status = self._file.stat()
            if (status.st_mtime_ns, status.st_size) != self._stamp:
                self._read_file(self._file)
        except (OSError, FlagFileError) as error:
            self.problem = str(error)  # what was read last counts on

    def _read_file(self, file: Path) -> None:
        status = file.stat()
        self._stamp = (status.st_mtime_ns, status.st_size)
        try:
            content = orjson.loads(file.read_bytes())
        except orjson.JSONDecodeError as error:
            raise FlagFileError(f"{file} is not JSON: {error}") from None
        entries = content.get("flags") if isinstance(content, dict) else content
        if not isinstance(entries, list):
            raise FlagFileError(f"{file} holds no list of flags, nor an object with one as its 'flags'")
        self._entries, self._served, self.problem = entries, None, ""

    def _switched(self, entry: Any) -> Any:
        choice = self._switches.get(_key(entry), RULES)
        if (
            choice == RULES
            or entry.get("key") not in read_answer(_definitions_body([entry]), NO_DEFINITIONS).flags
        ):
            return entry
        ruleset = {**entry["ruleset"], "test": None, "rollout": []}
        if choice != OFF:
            splits = {each["key"]: float(each["key"] == choice) for each in ruleset["variants"]}
            ruleset["rollout"] = [{"rollout_percentage": 1.0, "variant_splits": splits}]
        return {**entry, "ruleset": ruleset}


class FlagEndpoints:
    """The endpoints over these flags; with a `token` only that project's are there."""

    def __init__(self, flags: LocalFlags, *, token: str | None) -> None:
        self._flags = flags
        self._token = token

    def definitions(self, request: Request) -> Reply:
        """`GET /flags/definitions`: what a server evaluates by itself; 304 where it has these already."""
        if self._is_of_another_project(request):
            return error_reply(401, "Invalid credentials")
        body, etag, _ = self._flags.served()
        if request.headers.get("if-none-match") == etag:
            return Reply(status=304, headers=(("ETag", etag),))
        return Reply(body=body, headers=(("ETag", etag),))

    def variants(self, request: Request) -> Reply:
        """`/flags`: the variants of one visitor, as mixpanel-browser and the remote provider ask."""
        if self._is_of_another_project(request):
            return error_reply(401, "Invalid credentials")
        try:
            parameters = {**request.query, **_parameters(request)}
            variants = self._flags.variants(_context(parameters.get("context", {})))
        except PayloadError as error:
            return error_reply(error.status, str(error))
        if key := parameters.get("flag_key"):
            variants = {key: variants[key]} if key in variants else {}
        return json_reply({"code": 200, "flags": {key: _json(each) for key, each in variants.items()}})

    def listing(self, request: Request) -> Reply:
        """`/_local/flags`: all flags; by POST one is switched (`key`, `switch`) or put (`definition`)."""
        if request.method == "POST":
            self._change(request)
        return json_reply(self._flags.listed())

    def _change(self, request: Request) -> None:
        change = _loaded(request.body)
        if not isinstance(change, dict):
            raise PayloadError(400, "a change is an object with key and switch, or with a definition")
        if isinstance(change.get("definition"), dict):
            self._flags.put(change["definition"])
            return
        key, choice = change.get("key"), change.get("switch")
        if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_CHARS or not isinstance(choice, str):
            raise PayloadError(400, "key and switch must be texts")
        try:
            self._flags.switch(key, choice)
        except KeyError as error:
            raise PayloadError(404, f"there is no {error} to be shown") from None

    def _is_of_another_project(self, request: Request) -> bool:
        if self._token is None:
            return False
        requested_token = request.query.get("token") or _basic_user(request.headers.get("authorization", ""))
        return requested_token != self._token


def _definitions_body(entries: list[Any]) -> bytes:
    return orjson.dumps({"code": 200, "flags": entries})


def _key(entry: Any) -> str:
    key = entry.get("key") if isinstance(entry, dict) else None
    return key if isinstance(key, str) else ""


def _json(variant: SelectedVariant) -> dict[str, Any]:
    return {
        "variant_key": variant.key,
        "variant_value": variant.value,
        "experiment_id": variant.experiment_id,
        "is_experiment_active": variant.is_experiment_active,
        "is_qa_tester": variant.is_qa_tester,
    }


def _context(parameter: Any) -> Mapping[str, Any]:
    context = _loaded(parameter.encode()) if isinstance(parameter, str) else parameter
    if not isinstance(context, dict):
        raise PayloadError(400, "context must be a JSON object with a distinct_id")
    return context


def _parameters(request: Request) -> dict[str, Any]:
    if request.method != "POST" or not request.body:
        return {}
    if "json" in request.headers.get("content-type", ""):
        content = _loaded(request.body)
        return content if isinstance(content, dict) else {}
    return dict(parse_qsl(request.body.decode("utf-8", "replace")))


def _loaded(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise PayloadError(400, "not JSON") from None


def _basic_user(header: str) -> str:
    scheme, _, credentials = header.partition(" ")
    try:
        user = base64.b64decode(credentials, validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return user if scheme.lower() == "basic" else ""
