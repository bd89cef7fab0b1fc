"""Delivery: files, threads and network. Knows records; never requests or visitors."""
