"""Flags: the definitions of feature flags on their way from Mixpanel to every process that evaluates them.

The process that delivers asks Mixpanel for them, and shares them with the others through their spool. Only
the core reads definitions: in this room they are bytes.
"""
