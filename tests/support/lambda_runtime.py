"""A process as AWS Lambda keeps one: it answers an invocation, and is stopped the moment the response is out.

    python -m support.lambda_runtime '{"durability": "before-response"}'

reads an event of API Gateway from each line of its input, writes the response as a line, and stops itself
with SIGSTOP, all threads at once. SIGCONT lets it read the next line. The settings are those of the
environment, and the JSON's as keywords.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from mangum import Mangum
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from mixpanel_visitor.starlette import VisitorMiddleware
from mixpanel_visitor.tracking.tracker import Tracker


async def _order(request):
    request.state.visitor.track("Ordered", n=request.query_params["n"])
    return PlainTextResponse(request.state.visitor_id)


def main():
    """Answer until the input ends."""
    tracker = Tracker.from_env(**json.loads(sys.argv[1]))
    app = Starlette(
        routes=[Route("/order", _order, methods=["POST"])],
        middleware=[Middleware(VisitorMiddleware, tracker=tracker)],
    )
    handler = Mangum(app, lifespan="off")
    for line in sys.stdin:
        answer = handler(json.loads(line), None)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGSTOP)


if __name__ == "__main__":
    main()
