"""The app, as `INSTALLED_APPS` has it."""

from __future__ import annotations

from django.apps import AppConfig, apps
from django.core.checks import register

from .checks import check_middleware, check_settings, check_surroundings
from .logins import listen


class VisitorConfig(AppConfig):
    """`INSTALLED_APPS = ["mixpanel_visitor.django", ...]`."""

    name = "mixpanel_visitor.django"
    label = "mixpanel_visitor"
    verbose_name = "mixpanel-visitor"

    def ready(self) -> None:
        """Register the checks; listen to log-ins, where the site has Django's users."""
        register(check_settings, "mixpanel_visitor")
        register(check_middleware, "mixpanel_visitor")
        register(check_surroundings, "mixpanel_visitor")
        if apps.is_installed("django.contrib.auth"):
            listen()
