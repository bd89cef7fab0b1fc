"""Public suffixes: domains below which anybody can have one, so that browsers refuse cookies for them.

No copy of the Public Suffix List, which has ten thousand entries and changes weekly. It covers: top-level
domains; `co`, `com`, `org` and their like below the two-letter domains that sell names there; and the hosting
platforms at which Python applications are found. A suffix that is not here is not found.
"""

from __future__ import annotations

_SECOND_LEVEL = "ac co com edu gov net org"

_SELL_BELOW = """
    ae ar at au bd bo br bw cn cr cy do ec eg fj ge gh gt hk hn id il in jm jo jp ke kh kr kw lb lk ly ma
    mm mo mt mx my na ng ni np nz om pa pe ph pk pl pr ps pt py qa ru sa sg sv th tn tr tt tw tz ua ug uk
    uy uz ve vn ye za zm zw
"""

_OTHERS = """
    ad.jp go.jp gr.jp ne.jp or.jp go.kr ne.kr or.kr re.kr ltd.uk me.uk nhs.uk plc.uk sch.uk asn.au id.au
    gob.ar gob.mx nom.br geek.nz gen.nz kiwi.nz maori.nz school.nz go.id or.id web.id or.at priv.no web.za
    appspot.com azurecontainerapps.io azurestaticapps.net azurewebsites.net blogspot.com cloudapp.net
    cloudfront.net deno.dev elasticbeanstalk.com firebaseapp.com fly.dev github.io gitlab.io glitch.me
    herokuapp.com hf.space koyeb.app netlify.app ngrok-free.app ngrok.app ngrok.io onrender.com pages.dev
    pythonanywhere.com readthedocs.io repl.co replit.app replit.dev run.app streamlit.app surge.sh
    trycloudflare.com up.railway.app vercel.app web.app workers.dev
"""

_KNOWN = frozenset(_OTHERS.split()) | {
    f"{second}.{top}" for second in _SECOND_LEVEL.split() for top in _SELL_BELOW.split()
}


def is_public_suffix(domain: str) -> bool:
    """Return whether browsers refuse a cookie for this domain, as far as it is known here.

    >>> is_public_suffix("co.uk"), is_public_suffix(".herokuapp.com"), is_public_suffix("shop.example.com")
    (True, True, False)
    """
    name = domain.strip(".").lower()
    return "." not in name or name in _KNOWN
