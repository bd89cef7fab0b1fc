"""Real shared caches on free ports: nginx, Varnish and Apache before the same applications.

They store what RFC 9111 lets them store: Set-Cookie alone does not forbid it (7.3), and what is stale is
revalidated. So nginx is told not to look at Set-Cookie, and Varnish's built-in rule about it is left out.
"""

from __future__ import annotations

import contextlib
import http.client
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from .redis_servers import free_port
from .waiting import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

READY = "/ready"

NGINX = """
daemon off; master_process off; worker_processes 1; pid {home}/pid; error_log {home}/log warn;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
    proxy_cache_path {home}/cache keys_zone=all:1m;
    server {{
        listen 127.0.0.1:{port};
        proxy_cache all;
        proxy_cache_revalidate on;
        proxy_ignore_headers Set-Cookie;
        proxy_cache_valid any 1m;
        location = /ready {{ return 204; }}
        {locations}
    }}
}}
"""

VARNISH = """
vcl 4.1;
{backends}
sub vcl_recv {{
    if (req.url == "/ready") {{ return (synth(204)); }}
    {choices}
}}
sub vcl_beresp_cookie {{
    return;
}}
"""

APACHE = """
ServerRoot {home}
ServerName 127.0.0.1
PidFile {home}/pid
ErrorLog {home}/log
LogLevel warn
Listen 127.0.0.1:{port}
StartServers 1
ServerLimit 1
ThreadsPerChild 8
MaxRequestWorkers 8
DefaultRuntimeDir {home}
Mutex file:{home} default
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_http_module {modules}/mod_proxy_http.so
LoadModule cache_module {modules}/mod_cache.so
LoadModule cache_disk_module {modules}/mod_cache_disk.so
CacheRoot {home}/cache
CacheEnable disk /
CacheHeader on
CacheQuickHandler on
ErrorDocument 404 ready
{locations}
"""

APACHE_MODULES = Path("/usr/lib/apache2/modules")
PROGRAMS = {"nginx": "nginx", "varnish": "varnishd", "apache": "apache2"}
"""What each cache is run by; Debian keeps some of them where only root looks."""

_PLACES = "/usr/sbin:/usr/local/sbin:/sbin"


def executable(cache: str) -> str | None:
    """Return where the program of a cache is, or None."""
    program = PROGRAMS[cache]
    return shutil.which(program) or shutil.which(program, path=_PLACES)


@contextlib.contextmanager
def running(cache: str, backends: Mapping[str, int]) -> Iterator[int]:
    """Run a cache before applications, each for the paths below its name; give the cache's port."""
    port = free_port()
    program = executable(cache) or PROGRAMS[cache]
    with tempfile.TemporaryDirectory(prefix=f"mpv-{cache}-", ignore_cleanup_errors=True) as home:
        place = Path(home)
        place.chmod(0o755)  # the caches give up root's rights
        (place / "cache").mkdir()
        (place / "cache").chmod(0o777)
        command = _COMMANDS[cache](program, place, port, backends)
        with (place / "out").open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            wait_until(lambda: process.poll() is not None or _is_up(port), PATIENCE_S)
            if not _is_up(port):
                logs = [path.read_text() for path in (place / "out", place / "log") if path.exists()]
                raise RuntimeError(f"{program} did not start:\n{''.join(logs)}")
            yield port
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _nginx(program: str, home: Path, port: int, backends: Mapping[str, int]) -> list[str]:
    locations = "\n".join(
        f"location /{name}/ {{ proxy_pass http://127.0.0.1:{backend}; }}"
        for name, backend in backends.items()
    )
    configuration = home / "nginx.conf"
    configuration.write_text(NGINX.format(home=home, port=port, locations=locations))
    return [program, "-p", str(home), "-c", str(configuration), "-e", str(home / "log")]


def _varnish(program: str, home: Path, port: int, backends: Mapping[str, int]) -> list[str]:
    declared = "\n".join(
        f'backend {name} {{ .host = "127.0.0.1"; .port = "{backend}"; }}'
        for name, backend in backends.items()
    )
    choices = "\n".join(
        f'if (req.url ~ "^/{name}/") {{ set req.backend_hint = {name}; }}' for name in backends
    )
    configuration = home / "default.vcl"
    configuration.write_text(VARNISH.format(backends=declared, choices=choices))
    options = ["-n", str(home / "varnish"), "-s", "malloc,16m", "-T", "none", "-j", "none"]
    return [program, "-F", "-a", f"127.0.0.1:{port}", "-f", str(configuration), *options]


def _apache(program: str, home: Path, port: int, backends: Mapping[str, int]) -> list[str]:
    locations = "\n".join(
        f"ProxyPass /{name}/ http://127.0.0.1:{at}/{name}/" for name, at in backends.items()
    )
    configuration = home / "apache.conf"
    configuration.write_text(APACHE.format(home=home, port=port, modules=APACHE_MODULES, locations=locations))
    return [program, "-f", str(configuration), "-DFOREGROUND"]


_COMMANDS = {"nginx": _nginx, "varnish": _varnish, "apache": _apache}


def _is_up(port: int) -> bool:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as connection:
        try:
            connection.request("GET", READY)
            return connection.getresponse().status in (204, 404)
        except OSError:
            return False
