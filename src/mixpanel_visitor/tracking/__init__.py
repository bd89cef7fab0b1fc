"""Tracking: joins the core and delivery: the tracker, its visitors, and what a request needs of both."""
