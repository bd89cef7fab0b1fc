"""A Werkzeug application with visitors, under Werkzeug's own server.

    MIXPANEL_TOKEN=... MIXPANEL_VISITOR_SECRET_KEY=... python examples/werkzeug_app.py

Without a Mixpanel account: `mixpanel-visitor dev` in another terminal, and MIXPANEL_API_HOST as it says.
"""

import json

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.serving import run_simple
from werkzeug.wrappers import Request, Response

from mixpanel_visitor.werkzeug import VisitorMiddleware, get_visitor


def answer(**values):
    return Response(json.dumps(values), mimetype="application/json")


def front_page(request):
    get_visitor(request).track("Page viewed", page="front")
    return answer(visitor_id=get_visitor(request).id)


def log_in(request):
    visitor = get_visitor(request)
    visitor.identify("user-42")
    visitor.track("Logged in")
    return answer(distinct_id=visitor.distinct_id)


def log_out(request):
    visitor = get_visitor(request)
    visitor.track("Logged out")
    visitor.reset()
    return answer(visitor_id=visitor.id)


url_map = Map(
    [
        Rule("/", endpoint=front_page, methods=["GET"]),
        Rule("/login", endpoint=log_in, methods=["POST"]),
        Rule("/logout", endpoint=log_out, methods=["POST"]),
    ]
)


@Request.application
def site(request):
    try:
        endpoint, values = url_map.bind_to_environ(request.environ).match()
    except HTTPException as error:
        return error
    return endpoint(request, **values)


app = VisitorMiddleware(site, url_map=url_map)

if __name__ == "__main__":
    run_simple("127.0.0.1", 5000, app, use_reloader=True)
