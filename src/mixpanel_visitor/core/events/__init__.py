"""Events: what Mixpanel gets: values, times, redaction and the encoded record."""
