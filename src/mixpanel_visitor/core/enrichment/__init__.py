"""Enrichment: what a request tells of an event: client, page, browser, and whether it is a robot."""
