"""What a page posts to the hand-over endpoint, and whom the server knows then."""

import json

from support.trackers import COOKIE

DEVICE = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"
UID = "1ab2c3Xt3n8cgX0zk9m4"
OTHER_UID = "XXab12Xt3n8cgXXXXXX7"
SEEN = f"{COOKIE}_js"
OWN_PAGE = {"sec-fetch-site": "same-origin", "content-type": "application/json"}


def hand_over(client, word, headers=OWN_PAGE, **more):
    body = word if isinstance(word, bytes) else json.dumps(word).encode()
    return client.request("POST", "/_visitor", headers, body, **more)


def knows(client):
    """Whom the server takes the browser for on its next request."""
    return client.request("GET", "/").text
