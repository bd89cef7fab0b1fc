"""A Flask application with visitors.

    MIXPANEL_TOKEN=... MIXPANEL_VISITOR_SECRET_KEY=... flask --app examples/flask_app.py run

Without a Mixpanel account: `mixpanel-visitor dev` in another terminal, and MIXPANEL_API_HOST as it says.
"""

from flask import Flask, g, render_template_string

from mixpanel_visitor.flask import MixpanelVisitor, current_visitor

app = Flask(__name__)
visitors = MixpanelVisitor(app)


@app.get("/")
def front_page():
    current_visitor.track("Page viewed", page="front")
    return render_template_string("<h1>Hello</h1><p>Your visitor ID is {{ visitor_id }}.</p>")


@app.post("/login")
def log_in():
    current_visitor.identify("user-42")
    current_visitor.track("Logged in")
    return {"distinct_id": current_visitor.distinct_id}


@app.post("/logout")
def log_out():
    current_visitor.track("Logged out")
    current_visitor.reset()
    return {"was": g.visitor_id, "is": current_visitor.id}
