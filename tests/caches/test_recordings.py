"""The lines for nginx in docs/how-to/collector.md: session recordings go to Mixpanel, the rest to us."""

import contextlib
import http.client
import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest
from support import caches
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.core.collector.routes import own_names
from mixpanel_visitor.emulator import LocalMixpanel

pytestmark = pytest.mark.servers

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "collector.md"
TOKEN = "0123456789abcdef0123456789abcdef"


@contextlib.contextmanager
def nginx(locations):
    """Run nginx with these locations; give its port."""
    program = caches.executable("nginx")
    if program is None and not os.environ.get("CI"):
        pytest.skip("nginx is not installed")
    port = caches.free_port()
    with tempfile.TemporaryDirectory(prefix="mpv-nginx-", ignore_cleanup_errors=True) as home:
        Path(home).chmod(0o755)  # it gives up root's rights
        (Path(home) / "cache").mkdir()
        (Path(home) / "cache").chmod(0o777)
        configuration = Path(home) / "nginx.conf"
        configuration.write_text(caches.NGINX.format(home=home, port=port, locations=locations))
        command = [program, "-p", home, "-c", str(configuration), "-e", f"{home}/log"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        try:
            assert wait_until(lambda: caches._is_up(port), PATIENCE_S), (Path(home) / "log").read_text()
            yield port
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def test_recordings_are_passed_on_by_nginx():
    """With what the SDK says beside them, and without the visitor's cookies."""
    (lines,) = re.findall(r"```nginx\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    route = own_names(TOKEN)["record"]
    body = b"\x1f\x8b" + bytes(100_000)
    with LocalMixpanel() as mixpanel:
        local = lines.replace("RECORD_ROUTE", route).replace("https://api-js.mixpanel.com", mixpanel.url)
        assert local.count(route) == 1
        with (
            nginx(local) as port,
            contextlib.closing(
                http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
            ) as connection,
        ):
            headers = {"Authorization": "Basic eDo=", "Content-Type": "application/octet-stream"}
            connection.request("POST", f"/m/{route}/?format=gzip&seq=0", body, headers)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, b'{"code":200,"status":"OK"}')
        assert mixpanel.store.stats()["requests"]["/record"] == {"200": 1}
