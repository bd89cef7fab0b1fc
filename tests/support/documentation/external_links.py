"""Addresses of other sites in Markdown: do they answer? Standard library only: `scripts/check-links`."""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

TIMEOUT_S = 10
GONE = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
_CODE = re.compile(r"^( *)```.*?^\1```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_ADDRESS = re.compile(r"https?://[^\s)>\]\"'|]+")
_NO_SITES = ("127.0.0.1", "localhost", "example.com", "example.net")


def addresses(text: str) -> set[str]:
    """Return the addresses of a page, without those in code."""
    found = {address.rstrip(".,;:") for address in _ADDRESS.findall(_CODE.sub("", text))}
    return {each for each in found if not (urlsplit(each).hostname or "").endswith(_NO_SITES)}


def answer(address: str) -> str:
    """Return what an address answers: `ok`, `gone` and its status, or `not reached` and why."""
    if not address.startswith(("http://", "https://")):
        return "not reached: no address of the web"
    request = urllib.request.Request(address, headers={"User-Agent": "mixpanel-visitor documentation"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):
            return "ok"
    except urllib.error.HTTPError as error:
        return f"gone: {error.code}" if error.code in GONE else f"not reached: {error.code}"
    except OSError as error:
        return f"not reached: {error}"


def main(arguments: list[str]) -> int:
    """Look at Markdown files, and at those in directories."""
    paths = [
        path for each in map(Path, arguments) for path in ([each] if each.is_file() else each.rglob("*.md"))
    ]
    where = {address: path for path in paths for address in sorted(addresses(path.read_text("utf-8")))}
    with ThreadPoolExecutor(8) as pool:
        answers = dict(zip(where, pool.map(answer, where), strict=True))
    for address, said in answers.items():
        if said != "ok":
            print(f"{where[address]}: {address}: {said}")
    print(f"{len(answers)} addresses, {sum(said == 'ok' for said in answers.values())} answer.")
    return int(any(said.startswith("gone") for said in answers.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
