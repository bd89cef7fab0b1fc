"""Flags: Mixpanel's feature flags, evaluated by their definitions; values in, values out."""
