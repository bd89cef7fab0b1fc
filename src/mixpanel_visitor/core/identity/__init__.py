"""Identity: who the visitor is, by our cookie and by the claims of the browser's SDKs."""
