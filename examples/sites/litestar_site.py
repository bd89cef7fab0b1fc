"""A small shop with Litestar's session authentication, which tells the visitor of log-in and log-out.

    pip install 'mixpanel-visitor[litestar]' uvicorn jinja2
    MIXPANEL_TOKEN=... uvicorn --app-dir examples/sites litestar_site:app

Then http://127.0.0.1:8000, as anna ("earl grey") or bert ("darjeeling"). Without a Mixpanel account:
`mixpanel-visitor dev` in another terminal, and MIXPANEL_API_HOST as it says.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from litestar import Litestar, Request, get, post
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.enums import RequestEncodingType
from litestar.exceptions import NotFoundException
from litestar.middleware.session.server_side import ServerSideSessionBackend, ServerSideSessionConfig
from litestar.params import Body
from litestar.plugins.jinja import JinjaTemplateEngine
from litestar.response import Redirect, Template
from litestar.security.session_auth import SessionAuth
from litestar.template import TemplateConfig
from shop import PAGE, PRODUCTS, SECRET_KEY, knows

from mixpanel_visitor.litestar import CurrentVisitor, VisitorPlugin

ShopRequest = Request[str, dict[str, Any], State]


@dataclass
class LoginForm:
    username: str
    password: str


async def user_of_session(session: dict[str, Any], _connection: ASGIConnection[Any, Any, Any, Any]) -> Any:
    return session.get("user")


def page(request: ShopRequest, visitor: CurrentVisitor, title: str, **more: Any) -> Template:
    status_code = more.pop("status_code", 200)
    user_name = request.session.get("user", "")
    context = {"title": title, "visitor_id": visitor.id, "user_name": user_name, **PAGE, **more}
    return Template("shop.html", context=context, status_code=status_code)


@get("/", exclude_from_auth=True)
async def front_page(request: ShopRequest, visitor: CurrentVisitor) -> Template:
    visitor.track("Front page viewed")
    return page(request, visitor, "The shop")


@get("/product/{name:str}", exclude_from_auth=True)
async def product(request: ShopRequest, visitor: CurrentVisitor, name: str) -> Template:
    if name not in PRODUCTS:
        raise NotFoundException
    visitor.track("Product viewed", product=name)
    return page(request, visitor, name)


@get("/login", exclude_from_auth=True)
async def log_in(request: ShopRequest, visitor: CurrentVisitor) -> Template:
    return page(request, visitor, "Log in", form=True)


@post("/login", exclude_from_auth=True)
async def check_password(
    request: ShopRequest,
    visitor: CurrentVisitor,
    data: Annotated[LoginForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
) -> Template | Redirect:
    if not knows(data.username, data.password):
        return page(request, visitor, "Once more", form=True, status_code=401)
    request.set_session({"user": data.username})
    visitor.identify(data.username)
    return Redirect("/account", status_code=303)


@get("/account")
async def account(request: ShopRequest, visitor: CurrentVisitor) -> Template:
    visitor.track("Account opened")
    return page(request, visitor, "Your account")


@post("/logout")
async def log_out(request: ShopRequest, visitor: CurrentVisitor) -> Redirect:
    request.clear_session()
    visitor.reset()
    return Redirect("/", status_code=303)


sessions = SessionAuth[str, ServerSideSessionBackend](
    retrieve_user_handler=user_of_session, session_backend_config=ServerSideSessionConfig()
)
app = Litestar(
    [front_page, product, log_in, check_password, account, log_out],
    plugins=[VisitorPlugin(secret_key=SECRET_KEY)],
    on_app_init=[sessions.on_app_init],
    template_config=TemplateConfig(directory=Path(__file__).parent / "templates", engine=JinjaTemplateEngine),
)
