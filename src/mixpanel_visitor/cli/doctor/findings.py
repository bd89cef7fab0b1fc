"""Finding: one line of the report, and the numbers by which it can be ignored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]

OK = "ok"

IDS = {
    "E001": "a mistake in the settings",
    "W002": "a name in the environment that looks like a setting's",
    "W010": "no metadata of this package",
    "E011": "a package that is missing",
    "E012": "a package that is too old",
    "W013": "a uWSGI that may run no threads",
    "W020": "trusted_proxies trusts every client",
    "W021": "events go out without TLS",
    "E022": "a secret that is the token",
    "W023": "a token that does not look like one",
    "E024": "a secret_key that is easy to guess",
    "W025": "a secret_key that is short",
    "W026": "enabled or dry_run keep events back",
    "W027": "on_error is raise",
    "W028": "spid without a sign secret",
    "E040": "a cookie domain that browsers refuse",
    "W041": "a cookie domain that was not checked",
    "E050": "a proxy that cannot be used",
    "E051": "not reached through the proxy",
    "E052": "a certificate that is not accepted",
    "E053": "not reached by TLS",
    "E054": "a name that is not found",
    "E055": "not reached",
    "E056": "a clock that is hours off",
    "W056": "a clock that is off",
    "E057": "credentials or address that Mixpanel refuses",
    "E058": "something else answers in Mixpanel's place",
    "W059": "credentials that could not be checked",
    "E060": "another region that accepts the credentials",
    "W070": "a spool in memory",
    "E071": "a spool that cannot be written",
    "E072": "a spool that cannot be read",
    "E073": "a Redis that is not there",
    "E074": "a Redis that is too old",
    "W075": "a spool that may not last",
    "E076": "a volume that is full",
    "W077": "a volume that is nearly full",
    "W078": "a spool of another user",
    "W079": "a spool that others may look into",
    "E080": "dead letters",
    "W081": "something in the spool that cannot be read",
    "W082": "a spool that is nearly full",
    "W083": "no process delivers, and nothing waits yet",
    "E084": "records that wait for too long",
    "W085": "records that wait, and no process delivers",
    "E086": "a Redis that evicts",
    "W087": "a Redis without append-only file",
    "W088": "fewer replicas than wait asks for",
    "W100": "a page that is not shown",
    "W101": "a page that sets no visitor cookie",
    "W102": "a site without TLS",
    "E103": "two browsers with one visitor cookie",
    "E104": "a visitor cookie without Secure",
    "E105": "a visitor cookie for another site",
    "W106": "the script that hands IDs over is not there",
    "E107": "a collector that takes no events",
    "E108": "a collector that takes events from other sites",
    "E109": "events of browsers that are located at a proxy",
    "W110": "flags or settings that the collector does not pass on",
    "E111": "definitions of feature flags that cannot be had",
    "W112": "a feature flag that cannot be evaluated",
    "W113": "definitions of feature flags that are old",
}
"""Findings keep their IDs, because people write them into their CI. E: problem, W: warning."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: an ID or `ok`, what it is, why it matters, and the fix.

    `why` and `fix` are empty where nothing is wrong.

    >>> Finding("W070", "the spool is in memory", "events may be lost", "name a directory").level
    'warning'
    """

    id: str
    what: str
    why: str = ""
    fix: str = ""

    @property
    def level(self) -> Level:
        """How bad it is."""
        if self.id == OK:
            return "ok"
        return "problem" if self.id.startswith("E") else "warning"

    def as_json(self) -> dict[str, str]:
        """Return it for programs; what is in order has no ID."""
        finding_id = "" if self.id == OK else self.id
        return {"level": self.level, "id": finding_id, "what": self.what, "why": self.why, "fix": self.fix}
