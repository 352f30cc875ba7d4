"""Bytes on disk, for every room that reads or writes them.

In: paths and bytes. Out: files that survive a power cut (`durable`), and what the head of a DICOM
file says (`part10`). Fails: `SpoolFull`, `DatasetMismatch`, `InvalidUID`, and `OSError` as it is.
"""
