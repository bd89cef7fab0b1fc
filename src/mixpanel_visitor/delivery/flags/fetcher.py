"""Fetcher: asks Mixpanel for the definitions of feature flags, as the official library does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from mixpanel_visitor import release
from mixpanel_visitor.delivery.sending.http_client import USER_AGENT, MixpanelAPI

if TYPE_CHECKING:
    from mixpanel_visitor.delivery.sending.http_client import Response

PATH = "/flags/definitions"
TIMEOUT_S = 10.0
MAX_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The result of a request: new definitions in `body`, or an `error`; neither: they have not changed."""

    body: bytes | None = None
    etag: str = ""
    error: str = ""


class DefinitionsFetcher:
    """Fetches from one host with the credentials of a project; `service_account` is as for `MixpanelAPI`."""

    def __init__(
        self,
        host_url: str,
        token: str,
        service_account: tuple[str, str, str] | None,
        *,
        proxy: str | None,
    ) -> None:
        self._api = MixpanelAPI(host_url, token, service_account, proxy=proxy)
        query = {"mp_lib": release.NAME, "lib_version": release.VERSION, "token": token}
        if service_account is not None:
            query["project_id"] = service_account[2]
        self._target = f"{PATH}?{urlencode(query)}"

    def fetch(self, etag: str = "") -> Answer:
        """Make one request; `etag` is that of the known definitions. Raises nothing."""
        headers = {"User-Agent": USER_AGENT, "Accept": "application/json"}
        if etag:
            headers["If-None-Match"] = etag
        try:
            response = self._api.request(
                "GET", self._target, headers, timeout_s=TIMEOUT_S, max_bytes=MAX_BYTES
            )
        finally:
            self._api.close()  # the next request is in a minute
        return _interpret(response)


def _interpret(response: Response) -> Answer:
    if response.failure:
        return Answer(error=response.failure)
    if response.status == 304:
        return Answer()
    if response.status != 200:
        text = response.body[:200].decode("utf-8", "replace")
        return Answer(error=f"status {response.status}: {text}")
    if len(response.body) >= MAX_BYTES:
        return Answer(error=f"the answer has more than {MAX_BYTES} bytes")
    return Answer(body=response.body, etag=response.headers.get("etag", ""))
