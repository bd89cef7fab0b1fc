"""A Starlette application with visitors.

    MIXPANEL_TOKEN=... MIXPANEL_VISITOR_SECRET_KEY=... uvicorn --app-dir examples starlette_app:app

Without a Mixpanel account: `mixpanel-visitor dev` in another terminal, and MIXPANEL_API_HOST as it says.
"""

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from mixpanel_visitor.starlette import VisitorMiddleware


async def front_page(request):
    request.state.visitor.track("Page viewed", page="front")
    return JSONResponse({"visitor_id": request.state.visitor_id})


async def log_in(request):
    visitor = request.state.visitor
    visitor.identify("user-42")
    visitor.track("Logged in")
    return JSONResponse({"distinct_id": visitor.distinct_id})


async def log_out(request):
    request.state.visitor.track("Logged out")
    request.state.visitor.reset()
    return JSONResponse({"visitor_id": request.state.visitor.id})


app = Starlette(
    routes=[
        Route("/", front_page),
        Route("/login", log_in, methods=["POST"]),
        Route("/logout", log_out, methods=["POST"]),
    ],
    middleware=[Middleware(VisitorMiddleware)],
)
