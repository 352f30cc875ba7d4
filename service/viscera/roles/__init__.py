"""The four roles: each builds its own objects and runs until it is told to stop.

In: the settings, and an event that SIGTERM sets. Out: a ready line for the supervisor, a page of
metrics and health. Fails: `InvalidSettings` at start. A module per role, so that a listener does
not pay for the worker's imports.
"""
