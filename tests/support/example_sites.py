"""The sites of `examples/sites`, each started by the command that its docstring gives."""

from __future__ import annotations

import ast
import contextlib
import os
import shlex
import socket
import subprocess
import sys
import sysconfig
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from .waiting import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SITES = ROOT / "examples" / "sites"

PORT_ARGUMENTS = {
    "django_site": ("{port}",),
    "fastapi_site": ("--port", "{port}"),
    "flask_site": ("--port", "{port}"),
    "litestar_site": ("--port", "{port}"),
}
"""How each command is told its port."""


def command_of(site: str) -> list[str]:
    """Read a site's command in its docstring, without what it sets in the environment."""
    docstring = ast.get_docstring(ast.parse((SITES / f"{site}.py").read_text("utf-8"))) or ""
    (line,) = (line for line in docstring.splitlines() if line.startswith("    MIXPANEL_TOKEN=... "))
    return shlex.split(line)[1:]


@contextlib.contextmanager
def served_site(site: str, **environment: str) -> Iterator[str]:
    """Serve a site as a process until the end of the block, and give its URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    program, *arguments = command_of(site)
    executable = sys.executable if program == "python" else f"{sysconfig.get_path('scripts')}/{program}"
    command = [executable, *arguments, *(part.format(port=port) for part in PORT_ARGUMENTS[site])]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "MIXPANEL_VISITOR_SPOOL": "memory:", **environment},
            stdout=output,
            stderr=output,
        )
        try:
            started = wait_until(lambda: process.poll() is not None or _answers(url), PATIENCE_S)
            if not started or process.poll() is not None:
                output.seek(0)
                raise AssertionError(f"{shlex.join(command)}:\n{output.read().decode()}")
            yield url
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def _answers(url: str) -> bool:
    """Tell whether a site answers; a page that nobody tracks."""
    try:
        with urllib.request.urlopen(f"{url}/login", timeout=PATIENCE_S) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
