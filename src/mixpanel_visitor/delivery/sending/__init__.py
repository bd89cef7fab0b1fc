"""Sending: what a sender does with what is claimed: batches, requests, answers, retries and counts."""
