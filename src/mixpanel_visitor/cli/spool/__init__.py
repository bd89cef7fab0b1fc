"""The command `mixpanel-visitor spool`, and where the other commands find a spool."""
