"""Identity: who the visitor is: our cookie, what the SDKs of the browser say, and how they are joined."""
