"""The durable state: job store, leases, worker loop, retention.

In: arrivals (instances that are durable in the spool), decisions about submissions, results.
Out: claims (leased rows with a fence), jobs, deliveries, events.
Fails: `StoreUnavailable` when the database does not answer, `LeaseLost` when a write shows a
stale fence, `JobNotFound`.
"""
