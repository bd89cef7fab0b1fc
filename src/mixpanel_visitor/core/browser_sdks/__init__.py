"""The browser SDKs whose visitor ID we match: what each stores, how to read, verify and seed it."""
