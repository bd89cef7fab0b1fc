"""Flags: the definitions of feature flags on their way from Mixpanel to every process that evaluates them.

The process that delivers asks Mixpanel for them, and shares what it has got with the others through their
spool. What is in the definitions is the core's to know: here they are bytes.
"""
