"""The door for requests: requests to your other services carry the current visitor.

```python
session = requests.Session()
session.mount("http://", VisitorAdapter(tracker))
session.mount("https://", VisitorAdapter(tracker))
```

Only hosts that the setting `visitor_header_hosts` names get the header, also after a redirect. The service
that is called has to name the caller's network in `visitor_header_networks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .errors import MissingExtraError
from .tracking.visitor_header import HEADER, header_for

try:
    from requests.adapters import HTTPAdapter
except ImportError as error:  # pragma: no cover
    raise MissingExtraError("requests", "requests") from error

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

    from .tracking.tracker import Tracker

__all__ = ["VisitorAdapter"]


class VisitorAdapter(HTTPAdapter):
    """A transport adapter that adds the current visitor to requests to your services.

    `options` are those of `requests.adapters.HTTPAdapter`.
    """

    def __init__(self, tracker: Tracker, **options: Any) -> None:
        self._tracker = tracker
        super().__init__(**options)

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:
        """Send a request, with the header where its host may have it."""
        value = header_for(self._tracker, urlsplit(request.url or "").hostname)
        if value is not None:
            # A copy: a redirect is made from the request that was given, and may lead to another host.
            request = request.copy()
            request.headers[HEADER] = value
        return super().send(request, *args, **options)
