"""How long junk can keep a parser busy: `python tests/benchmarks/junk.py`.

Throws about 140 kinds of junk, most of them 64 KiB, at everything that reads what a client sends, and prints
for each parser the kind that takes it longest (CPU time, best of five runs). Exits with 1 where one takes
more than 5 ms. Not collected by pytest, because timing never fails a test; tests/core/test_any_bytes.py
throws the same junk, untimed.
"""

from __future__ import annotations

import ipaddress
import sys
from time import thread_time
from typing import TYPE_CHECKING, NamedTuple

from mixpanel_visitor.core import policy
from mixpanel_visitor.core.enrichment import bots
from mixpanel_visitor.core.enrichment.client_address import ClientAddresses
from mixpanel_visitor.core.enrichment.enricher import Enricher
from mixpanel_visitor.core.enrichment.url_properties import without_secrets
from mixpanel_visitor.core.enrichment.user_agents import describe
from mixpanel_visitor.core.events.encoding import converted, encode_part
from mixpanel_visitor.core.events.redaction import Redactor
from mixpanel_visitor.core.identity.mixpanel_browser import MixpanelBrowser
from mixpanel_visitor.core.identity.spid_browser import SpidBrowser
from mixpanel_visitor.core.identity.visitor_cookie import VisitorCookie, VisitorCookieCodec
from mixpanel_visitor.core.request import (
    RequestFacts,
    all_cookie_values,
    cookie_values,
    facts_from_environ,
    facts_from_scope,
)
from mixpanel_visitor.core.response_cookies import ResponseCookies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZE = 65_536
LIMIT_MS = 5.0
RUNS = 5

TOKEN = "0123456789abcdef0123456789abcdef"
DEVICE_ID = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"
NOW_S = 1_760_000_000


def ignore(_name: str) -> None:
    """Take the counters' names."""


def codec_named(name: str, former_name: str | None = None) -> VisitorCookieCodec:
    """Build a codec; with `former_name` one that knows the cookies of release 0.1 as well."""
    return VisitorCookieCodec(
        ["a-key-of-some-length"],
        token=TOKEN,
        name=name,
        former_name=former_name,
        domain=None,
        max_age_s=31_536_000,
        count=ignore,
    )


CODEC = codec_named("mpv")
UPGRADED = codec_named("mpv_3eb1bd43", "mpv")
MIXPANEL = MixpanelBrowser(
    TOKEN,
    persistence_name=None,
    cross_subdomain=True,
    cookie_domain=None,
    max_age_s=31_536_000,
    count=ignore,
)
SPID = SpidBrowser("4321abc0000", sign_secret="foobar-sign-secret", production=True, count=ignore)
COOKIES = ResponseCookies(UPGRADED, MIXPANEL, seen_name="mpv_3eb1bd43_js", former_seen_name="mpv_js")
SIGNED = CODEC.encode(VisitorCookie(device_id=DEVICE_ID, issued_at_s=NOW_S))


ADDRESSES = ClientAddresses([ipaddress.ip_network("10.0.0.0/8")], mode="truncate")
SECRETS = Redactor().is_secret
ENRICHER = Enricher(addresses=ADDRESSES, redactor=Redactor(), mixpanel=MIXPANEL)


def enriched(junk: str) -> object:
    """Read everything that an event carries out of a request that is junk all over."""
    request = facts(junk)
    ENRICHER.first_touch(request)
    return ENRICHER.properties(request.replaced(path=junk, query=junk), is_new=True, is_bot=False)


def forwarded(name: str, junk: str) -> object:
    """Have a trusted proxy say junk."""
    request = facts("").replaced(client="10.0.0.1", headers={name: junk})
    return ADDRESSES.behind_proxies(request)


class Parser(NamedTuple):
    """Something that reads a client's text; `name` is what it looks for in it."""

    title: str
    name: str
    run: Callable[[str], object]


def facts(junk: str) -> RequestFacts:
    """Build the facts of a request that is junk all over."""

    class Headers:
        def get(self, _name: str, /) -> str:
            return junk

    return RequestFacts("http", junk, "https", junk, junk, junk, junk, junk, Headers())


def scope(junk: str) -> dict[str, object]:
    """Build an ASGI scope of junk; its Cookie header comes in many pieces."""
    raw = junk.encode("latin-1", "replace")
    pieces = [(b"Cookie", raw[start : start + 64]) for start in range(0, len(raw), 64)]
    return {"type": "http", "headers": [(b"host", raw), *pieces], "raw_path": raw, "query_string": raw}


def environ(junk: str) -> dict[str, object]:
    """Build a WSGI environ of junk."""
    return {"HTTP_HOST": junk, "PATH_INFO": junk, "QUERY_STRING": junk, "HTTP_COOKIE": junk}


def tracked(junk: str) -> bytes:
    """Write properties of junk: a text, a name, items of a list, bytes."""
    return encode_part(
        converted({"a": junk, junk: 1, "b": [junk, junk], "c": junk.encode("utf-8", "replace")})
    )


MP, V1, V2, OURS = MIXPANEL.name, "vgs_js_4321abc0000", "spid_js_4321abc0000", "__Host-mpv"

PARSERS = [
    Parser("request.cookie_values", "mpv", lambda junk: cookie_values(junk, "mpv")),
    Parser("request.cookie_values, commas", "mpv", lambda junk: cookie_values(junk, "mpv", commas=True)),
    Parser("request.all_cookie_values", "mpv", lambda junk: all_cookie_values(junk, "mpv")),
    Parser("request.facts.cookie", "mpv", lambda junk: facts(f"x; {junk}").cookie("mpv")),
    Parser("request.facts_from_scope", "mpv", lambda junk: facts_from_scope(scope(junk))),
    Parser("request.facts_from_environ", "mpv", lambda junk: facts_from_environ(environ(junk))),
    Parser("anchor.find, https", OURS, lambda junk: CODEC.find(junk, secure=True, now_s=NOW_S)),
    Parser("anchor.find, http", "mpv", lambda junk: CODEC.find(junk, secure=False, now_s=NOW_S)),
    Parser("anchor.find, 0.1", "mpv", lambda junk: UPGRADED.find(junk, secure=False, now_s=NOW_S)),
    Parser("anchor.expire_former", "mpv", lambda junk: UPGRADED.expire_former(junk, secure=False)),
    Parser("set_cookies.has_opted_out", "mpv_js", lambda junk: COOKIES.has_opted_out(facts(junk))),
    Parser("anchor.decode", "1~", lambda junk: CODEC.decode(junk, now_s=NOW_S)),
    Parser(
        "policy.opted_out",
        "mp_optout",
        lambda junk: policy.opted_out(facts(junk), token=TOKEN, respect_dnt=True, respect_gpc=True),
    ),
    Parser("bots.by_user_agent", "googlebo", bots.by_user_agent),
    Parser("policy.is_prefetch", "prefetc", lambda junk: policy.is_prefetch(facts(junk))),
    Parser("policy.is_document", "documen", lambda junk: policy.is_document(facts(junk))),
    Parser("policy.may_set_cookie", "doc", lambda junk: policy.may_set_cookie(facts(junk), tracked=True)),
    *(
        Parser(
            f"policy.shared_cacheable, {header}",
            "max-age",
            lambda junk, header=header: policy.shared_cacheable([(header, junk)], now_s=NOW_S),
        )
        for header in ("cache-control", "cdn-cache-control", "expires")
    ),
    Parser("user_agents.describe", "Chrome/", describe),
    Parser("bots.kind", "Bot", lambda junk: bots.BotDetector().kind(facts(junk))),
    Parser("enrich.properties", "utm_source", enriched),
    Parser("page_urls.without_secrets", "token", lambda junk: without_secrets(junk[:8192], SECRETS)),
    Parser("enrich.page_view", "token", lambda junk: ENRICHER.page_view(facts(junk), junk)),
    Parser("client_address, X-Forwarded-For", "10.0.0.1", lambda junk: forwarded("x-forwarded-for", junk)),
    Parser("client_address, Forwarded", "for", lambda junk: forwarded("forwarded", junk)),
    Parser("mixpanel.claim, new", MP, lambda junk: MIXPANEL.claim(junk, known_device_id=None)),
    Parser("mixpanel.claim, known", MP, lambda junk: MIXPANEL.claim(junk, known_device_id=DEVICE_ID)),
    Parser("mixpanel.occupied", MP, MIXPANEL.occupied),
    Parser("mixpanel.seed", "a", lambda junk: MIXPANEL.seed(DEVICE_ID, host=junk, secure=True)),
    Parser("mixpanel.opt_out", "a", lambda junk: MIXPANEL.opt_out(host=junk, secure=True)),
    Parser("mixpanel.opt_in", "a", lambda junk: MIXPANEL.opt_in(host=junk)),
    Parser("spid.find, v1", V1, lambda junk: SPID.find(junk, now_s=NOW_S)),
    Parser("spid.find, v2", V2, lambda junk: SPID.find(junk, now_s=NOW_S)),
    Parser("spid.verified", "a", lambda junk: SPID.verified(junk, now_s=NOW_S)),
    Parser("spid.unsigned", "a", SPID.unsigned),
    Parser("a property, its name and its items", "a", tracked),
]

RUNS_OF = {
    "letters": "a",
    "letters and dots": "a.",
    "letters and dashes": "a-",
    "hexadecimal parts": "0123456789abcdef-",
    "dots": ".",
    "blanks": " ",
    "tabs": "\t",
    "semicolons": ";",
    "commas": ",",
    "equals signs": "=",
    "quotes": '"',
    "broken percents": "%",
    "percent-encoded percents": "%25",
    "parameters": "?a=",
    "encoded parameters": "?a%3da",
    "encoded addresses": "%3a%2f%2fa%40",
    "percent-encoded blanks": "%20",
    "halves of surrogate pairs": "%ud83d",
    "open brackets": "[",
    "escaped open brackets": "%5B",
    "escaped nested objects": "%7B%22a%22%3A",
    "nested visitors": "%7B%22visitor%22%3A",
    "digits": "9",
    "line ends": "\r\n",
    "zero bytes": "\0",
    "bytes beyond ASCII": "\xff",
    "half of a character in UTF-8": "%C3",
}


def kinds(name: str) -> Iterator[tuple[str, str]]:
    """Return junk of 64 KiB by its kind, some of it with a cookie of this name or several."""
    for title, piece in RUNS_OF.items():
        filler = piece * (SIZE // len(piece))
        yield title, filler
        yield f"a cookie of {title}", f"{name}={filler}"[:SIZE]
        # Short enough to be decoded, so that the decoders are the ones that work.
        cookie = f"; {name}=" + filler[:4000]
        yield f"many cookies of {title}", cookie.removeprefix("; ") + cookie * (SIZE // len(cookie))
        yield f"its name between {title}", f"{filler[: SIZE // 400]}{name}=" * 400
        yield f"its name after {title}", f"{filler}{name}="
    pair = f"{name}=1;"
    yield "thousands of empty cookies", f"{name}=;" * (SIZE // (len(name) + 2))
    yield "thousands of cookies", pair * (SIZE // len(pair))
    yield "thousands of cookies whose name ends alike", f"x{pair}" * (SIZE // (len(pair) + 1))
    yield "thousands of cookies with commas", f",{name}=1" * (SIZE // len(pair))
    yield "its beginning, again and again", name[:-1] * (SIZE // max(1, len(name) - 1))
    yield "signed cookies", f"{name}={SIGNED};" * (SIZE // (len(SIGNED) + len(name) + 2))
    yield "a signature of junk", f"{name}={'A' * 43}.{'A' * (SIZE - 60)}"
    yield "signatures of junk", f"{'A' * 43}.{'A' * 4000}"
    identity = f"%7B%22distinct_id%22%3A%22{'a' * 3000}%22%2C%22%24device_id%22%3A%22{DEVICE_ID}"
    for title, piece in (("letters", "a"), ("labels", "a."), ("dashes", "a-"), ("short labels", "aa.")):
        yield f"a host of {title}", (piece * 253)[:250] + "no1"
        yield f"a host of {title}, on info", (piece * 253)[:247] + "inf_o"
    yield "an identity that does not end", f"{name}={identity};" * 20


def worst(parser: Parser) -> tuple[float, str]:
    """Return the milliseconds that the worst kind of junk takes, and which kind it is."""
    return max((best_ms(parser, junk), kind) for kind, junk in kinds(parser.name))


def best_ms(parser: Parser, junk: str) -> float:
    """Return the shortest of several runs in milliseconds: the machine's own pauses are not the parser's."""
    times = []
    for _ in range(RUNS):
        before = thread_time()
        parser.run(junk)
        times.append(thread_time() - before)
    return min(times) * 1000


def main() -> int:
    """Print the table; 1: some parser is over the limit."""
    slow = 0
    for parser in PARSERS:
        taken_ms, kind = worst(parser)
        slow += taken_ms > LIMIT_MS
        mark = "  <- too slow" if taken_ms > LIMIT_MS else ""
        sys.stdout.write(f"{parser.title:44} {taken_ms:8.3f} ms  {kind}{mark}\n")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
