"""Observability: counters, their export as metrics, and rate-limited logging."""
