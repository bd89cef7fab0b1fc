"""Trackers that deliver: their settings, and a Mixpanel that takes everything."""

from mixpanel_visitor.delivery.sending.http_client import Response

SETTINGS = {"token": "t", "secret_key": "a-key-of-some-length", "spool": "memory:"}


def accepting(requests=None):
    """A Mixpanel that takes everything."""

    def post(endpoint, bodies):
        if requests is not None:
            requests.append((endpoint, list(bodies)))
        body = b'{"code":200,"num_records_imported":%d,"status":"OK"}' % len(bodies)
        return Response(status=200, headers={}, body=body if endpoint == "import" else b"1")

    return post
