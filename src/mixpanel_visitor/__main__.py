"""`python -m mixpanel_visitor` is the command `mixpanel-visitor`."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    main(prog_name="mixpanel-visitor")
