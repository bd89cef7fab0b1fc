"""Feature flags: Mixpanel gives their definitions, they can be read, and some process keeps them fresh."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mixpanel_visitor.core.flags.definitions import NO_DEFINITIONS, DefinitionsError, read_answer
from mixpanel_visitor.delivery.flags.document import SharedDefinitions
from mixpanel_visitor.delivery.flags.fetcher import DefinitionsFetcher
from mixpanel_visitor.delivery.spool import FlagSharingSpool
from mixpanel_visitor.delivery.spool_factory import open_spool
from mixpanel_visitor.errors import SpoolError
from mixpanel_visitor.quoting import several
from mixpanel_visitor.settings.project import project_of

from .findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mixpanel_visitor.settings import Settings

OLD_S = 600.0
"""Definitions are fetched each minute; these were missed ten times."""


def check_flags(settings: Settings) -> Iterator[Finding]:
    """Fetch the definitions as delivery would, and look at those that the processes share."""
    if settings.flags == "off":
        return
    account = settings.service_account
    credentials = (account.username, account.secret, account.project_id) if account else None
    response = DefinitionsFetcher(
        settings.api_host, settings.token, credentials, proxy=settings.proxy
    ).fetch()
    if response.body is None:
        yield _unavailable(
            f"{settings.api_host} does not give the definitions of feature flags: {response.error}",
            "check MIXPANEL_API_HOST and the credentials; feature flags must be in the project's plan",
        )
    else:
        yield from check_definitions(response.body)
    yield from _check_shared(settings)


def check_definitions(body: bytes) -> Iterator[Finding]:
    """Check an answer with definitions."""
    try:
        definitions = read_answer(body, NO_DEFINITIONS)
    except DefinitionsError as error:
        yield _unavailable(
            f"the definitions of feature flags cannot be read: {error}",
            "check MIXPANEL_API_HOST, and the proxy behind it",
        )
        return
    yield Finding(
        "ok", f"Mixpanel gives the definitions of {several(len(definitions.flags), 'feature flag')}"
    )
    for line in definitions.malformed:
        yield Finding(
            "W112",
            f"a feature flag cannot be evaluated here: {line}",
            "it keeps what it was, or has its default",
            "save the flag anew at Mixpanel; update mixpanel-visitor",
        )


def _check_shared(settings: Settings) -> Iterator[Finding]:
    spool = open_spool(settings.spool, project=project_of(settings.token))
    if not isinstance(spool, FlagSharingSpool):
        return
    try:
        document = spool.shared_flags()
        shared = None if document is None else SharedDefinitions.decode(document)
    except (OSError, SpoolError, ValueError) as error:
        yield _old(
            f"cannot be read: {error}",
            "processes that do not fetch them have none",
            "run this and the application as the same user",
        )
        return
    finally:
        spool.close()
    if shared is None:
        return
    age_s = time.time() - shared.fetched_at_s
    if age_s > OLD_S:
        yield _old(
            f"are {age_s / 60:.0f} minutes old",
            "a flag that was changed at Mixpanel since then is not changed here",
            "see that the process that delivers runs, with MIXPANEL_VISITOR_FLAGS=local",
        )
    else:
        yield Finding("ok", f"the definitions in the spool are {max(0.0, age_s):.0f} s old")


def _unavailable(problem: str, fix: str) -> Finding:
    return Finding("E111", problem, "flags keep what they were, or have their defaults", fix)


def _old(problem: str, reason: str, fix: str) -> Finding:
    return Finding("W113", f"the definitions of feature flags in the spool {problem}", reason, fix)
