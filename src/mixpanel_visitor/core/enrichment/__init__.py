"""Enrichment: the properties that a request adds to an event: client, page, browser, bot."""
