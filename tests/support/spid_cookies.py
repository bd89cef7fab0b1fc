"""SPiD's sessions for tests: in cookies, signed as SPiD does, and our reader of them."""

import base64
import hashlib
import hmac
import json
from collections import Counter

from mixpanel_visitor.core.identity.spid_browser import (
    SpidBrowser,
    SpidVisitor,
)
from support.facts import VECTORS

CLIENT = "4321abc0000"
V1 = f"vgs_js_{CLIENT}"
V2 = f"spid_js_{CLIENT}"
SECRET = "foobar-sign-secret"
UID = "1ab2c3Xt3n8cgX0zk9m4"
OTHER_UID = "9zz9zzXt3n8cgXother1"
NOW_S = 1_760_000_000
LOGGED_IN = VECTORS["spid_cookies"][0]["json"]
SIGNED = SpidVisitor(
    uid=UID, signed=True, logged_in=True, issued_at_s=NOW_S, until_s=NOW_S + 7111, user_id=270177
)
UNSIGNED = SpidVisitor(uid=UID, signed=False)


def make_spid_sdk(notes=None, *, sign_secret=SECRET, production=True):
    notes = Counter() if notes is None else notes

    def count(name):
        notes[name] += 1

    return SpidBrowser(CLIENT, sign_secret=sign_secret, production=production, count=count)


def signed(text, *, secret=SECRET):
    """Sign a payload as SPiD does; it may be an object or any text or bytes."""
    if isinstance(text, dict):
        text = json.dumps({"algorithm": "HMAC-SHA256", **text})
    raw = text.encode() if isinstance(text, str) else text
    payload = base64.urlsafe_b64encode(raw).rstrip(b"=")
    mac = base64.urlsafe_b64encode(hmac.digest(secret.encode(), payload, hashlib.sha256)).rstrip(b"=")
    return f"{mac.decode()}.{payload.decode()}"


def session(uid=UID, **more):
    """Build what SPiD says about somebody who is logged in."""
    return {"serverTime": NOW_S, "expiresIn": 7111, "visitor": {"uid": uid, "user_id": "270177"}, **more}


def cookie(stored, name=V2):
    """Build a Cookie header with a session in it, among others."""
    text = json.dumps(stored)
    return f"a=1; {name}=" + "".join(
        char if char.isalnum() or char in "@*_+-./" else f"%{ord(char):02X}" for char in text
    )
