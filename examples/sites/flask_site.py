"""A small shop with Flask and Flask-Login, whose log-in and log-out are the visitor's by themselves.

    pip install 'mixpanel-visitor[flask]' flask-login
    MIXPANEL_TOKEN=... flask --app examples/sites/flask_site.py run

Then http://127.0.0.1:5000, as anna ("earl grey") or bert ("darjeeling"). Without a Mixpanel account:
`mixpanel-visitor dev` in another terminal, and MIXPANEL_API_HOST as it says.
"""

from typing import Any

from flask import Flask, abort, redirect, render_template, request
from flask_login import LoginManager, UserMixin, current_user, login_required, login_user, logout_user
from shop import PAGE, PASSWORDS, PRODUCTS, SECRET_KEY, knows

from mixpanel_visitor.flask import MixpanelVisitor, current_visitor

app = Flask(__name__)
app.secret_key = SECRET_KEY
MixpanelVisitor(app)
logins = LoginManager(app)


class User(UserMixin):
    def __init__(self, name: str) -> None:
        self.id = name


@logins.user_loader
def load_user(user_id: str) -> User | None:
    return User(user_id) if user_id in PASSWORDS else None


@logins.unauthorized_handler
def ask_to_log_in() -> Any:
    return redirect("/login")


def page(title: str, **more: Any) -> str:
    user_name = current_user.id if current_user.is_authenticated else ""
    return render_template("shop.html", title=title, user_name=user_name, **PAGE, **more)


@app.get("/")
def front_page() -> str:
    current_visitor.track("Front page viewed")
    return page("The shop")


@app.get("/product/<name>")
def product(name: str) -> str:
    if name not in PRODUCTS:
        abort(404)
    current_visitor.track("Product viewed", product=name)
    return page(name)


@app.get("/login")
def log_in() -> str:
    return page("Log in", form=True)


@app.post("/login")
def check_password() -> Any:
    name = request.form["username"]
    if not knows(name, request.form["password"]):
        return page("Once more", form=True), 401
    login_user(User(name))
    return redirect("/account")


@app.get("/account")
@login_required
def account() -> str:
    current_visitor.track("Account opened")
    return page("Your account")


@app.post("/logout")
def log_out() -> Any:
    logout_user()
    return redirect("/")
