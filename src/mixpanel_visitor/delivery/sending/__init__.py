"""Sending: claimed records become batches and requests; responses, retries and counts."""
