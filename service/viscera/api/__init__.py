"""The gRPC and HTTP doors: they translate, no more.

In: calls of `SegmentationService` (``proto/viscera/v1``), GETs of ``/metrics``, ``/healthz`` and
``/readyz``. Out: uploads in the spool and their rows, jobs and result files as messages, pages.
Fails: what a call raises leaves as one status (`viscera.statuses`) with a ``google.rpc.Status``;
`InvalidSettings` at start where the door would be open beyond loopback.

Read `servicer.py` first: one method for each call. `gate.py` is what every call passes.
"""
