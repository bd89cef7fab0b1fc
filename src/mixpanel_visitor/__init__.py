"""One visitor ID for browser and backend, and events that reach Mixpanel."""
