"""Bytes on disk, for every room that reads or writes them.

In: paths and bytes. Out: files that survive a power cut (`durable`), what the head of a DICOM
file says (`part10`), and what certificates and other replaceable files hold (`pem`, `reloaded`).
Fails: `SpoolFull`, `DatasetMismatch`, `InvalidUID`, `InvalidSettings`, and `OSError` as it is.
"""
