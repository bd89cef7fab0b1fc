"""Observability: what is counted, how it is exported, and what is logged how often."""
