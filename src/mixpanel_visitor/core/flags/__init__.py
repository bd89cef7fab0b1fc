"""Flags: Mixpanel's feature flags, evaluated from their definitions; values in, values out."""
