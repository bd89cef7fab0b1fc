"""What the four sites have in common: goods, users, and what the page's template needs."""

import os

PRODUCTS = ("tea", "mug", "kettle")

PASSWORDS = {"anna": "earl grey", "bert": "darjeeling"}
"""Of a real site's users there are hashes, in its database."""

SECRET_KEY = os.environ.get("SECRET_KEY", "known to everybody who reads this")

PAGE = {
    "products": PRODUCTS,
    # Both sides of a site send to the same project: the browser's SDK takes what our settings take.
    "token": os.environ.get("MIXPANEL_TOKEN", ""),
    "api_host": os.environ.get("MIXPANEL_API_HOST", "https://api-js.mixpanel.com"),
    "sdk_url": os.environ.get(
        "MIXPANEL_SDK_URL", "https://cdn.mxpnl.com/libs/mixpanel-js/dist/mixpanel.module.js"
    ),
}


def knows(name: str, password: str) -> bool:
    """Tell whether this is the password of this user."""
    return name in PASSWORDS and PASSWORDS[name] == password
