"""Stand-ins for Schibsted account (SPiD): its two JS SDKs and the server that they ask."""

from .server import SpidServer, User

__all__ = ["SpidServer", "User"]
