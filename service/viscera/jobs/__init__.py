"""The durable state: spool, job store, leases, worker loop, retention.

In: arrivals (instances that are durable in the spool), decisions about submissions, results.
Out: claims (leased rows with a fence), jobs, deliveries, events.
Fails: `StoreUnavailable` when the database does not answer, `LeaseLost` when a write shows a
stale fence, `JobNotFound`.

Start at `protocol.py` (what is asked of a store) and `store.py` (which joins its parts: `intake`,
`submissions`, `work`, `outbox`, `commitment`, `queries`, `expiry`). `leases.py` and `moments.py`
say who may write and what time it is, `worker.py` does the work, `retention.py` clears up.
"""
