"""A small shop with FastAPI and Starlette's sessions, which tells the visitor of log-in and log-out.

    pip install 'mixpanel-visitor[fastapi]' uvicorn jinja2 python-multipart
    MIXPANEL_TOKEN=... uvicorn --app-dir examples/sites fastapi_site:app

Then http://127.0.0.1:8000, as anna ("earl grey") or bert ("darjeeling"). Without a Mixpanel account:
`mixpanel-visitor dev` in another terminal, and MIXPANEL_API_HOST as it says.
"""

from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.templating import Jinja2Templates
from shop import PAGE, PRODUCTS, SECRET_KEY, knows
from starlette.middleware.sessions import SessionMiddleware

from mixpanel_visitor.fastapi import CurrentVisitor, VisitorMiddleware, visitor_context

app = FastAPI()
app.add_middleware(SessionMiddleware, secret_key=SECRET_KEY)
app.add_middleware(VisitorMiddleware, secret_key=SECRET_KEY)
templates = Jinja2Templates(Path(__file__).parent / "templates", context_processors=[visitor_context])


def user_of_session(request: Request) -> str:
    user: str = request.session.get("user", "")
    return user


CurrentUser = Annotated[str, Depends(user_of_session)]


def page(request: Request, title: str, user: str = "", *, status_code: int = 200, **more: Any) -> Response:
    context = {"title": title, "user_name": user, **PAGE, **more}
    return templates.TemplateResponse(request, "shop.html", context, status_code)


@app.get("/")
async def front_page(request: Request, visitor: CurrentVisitor, user: CurrentUser) -> Response:
    visitor.track("Front page viewed")
    return page(request, "The shop", user)


@app.get("/product/{name}")
async def product(request: Request, name: str, visitor: CurrentVisitor, user: CurrentUser) -> Response:
    if name not in PRODUCTS:
        raise HTTPException(404)
    visitor.track("Product viewed", product=name)
    return page(request, name, user)


@app.get("/login")
async def log_in(request: Request) -> Response:
    return page(request, "Log in", form=True)


@app.post("/login")
async def check_password(
    request: Request,
    visitor: CurrentVisitor,
    username: Annotated[str, Form()],
    password: Annotated[str, Form()],
) -> Response:
    if not knows(username, password):
        return page(request, "Once more", form=True, status_code=401)
    request.session["user"] = username
    visitor.identify(username)
    return RedirectResponse("/account", 303)


@app.get("/account")
async def account(request: Request, visitor: CurrentVisitor, user: CurrentUser) -> Response:
    if not user:
        return RedirectResponse("/login", 303)
    visitor.track("Account opened")
    return page(request, "Your account", user)


@app.post("/logout")
async def log_out(request: Request, visitor: CurrentVisitor) -> Response:
    request.session.clear()
    visitor.reset()
    return RedirectResponse("/", 303)
