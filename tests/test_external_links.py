"""`scripts/check-links`: which addresses it asks, and what it makes of the answers."""

import http.server
import threading

import pytest
from support.documentation.external_links import addresses, answer, main


class Site(http.server.BaseHTTPRequestHandler):
    """Answers with the status that the path says."""

    def do_GET(self):
        self.send_response(int(self.path[1:]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def site():
    """Serve on a free port; give the address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_addresses_in_code_and_of_this_machine_are_left_out():
    """They are examples."""
    text = """
    [a](https://docs.mixpanel.com/x), <https://docs.python.org/y>. `https://in-code.org`, https://shop.example.com/
```console
$ curl https://in-a-block.org
```
    and http://127.0.0.1:8484, at last https://end.org/z.
    """
    assert addresses(text) == {
        "https://docs.mixpanel.com/x",
        "https://docs.python.org/y",
        "https://end.org/z",
    }


@pytest.mark.parametrize(
    ("status", "said"), [(200, "ok"), (404, "gone: 404"), (410, "gone: 410"), (503, "not reached: 503")]
)
def test_what_an_address_answers(site, status, said):
    """Only what says that it is not there is gone; a site may be down, or refuse programs."""
    assert answer(f"{site}/{status}") == said


def test_without_a_network_nothing_fails(tmp_path, capsys):
    """What is not reached is named."""
    (tmp_path / "page.md").write_text("https://nowhere.invalid/page")
    assert main([str(tmp_path)]) == 0
    assert "https://nowhere.invalid/page: not reached" in capsys.readouterr().out
