"""pydicom judges the file meta that we write by hand."""

from io import BytesIO

import pydicom
import pytest
from pydicom.uid import CTImageStorage, ImplicitVRLittleEndian
from pynetdicom.dsutils import create_file_meta, encode_file_meta

from viscera.receive.file_meta import file_header


@pytest.mark.parametrize("sop_uid", ["1.2.3", "1.2.34", "2." + "9" * 61])
def test_equals_what_pydicom_writes(sop_uid):
    meta = create_file_meta(
        sop_class_uid=CTImageStorage,
        sop_instance_uid=pydicom.uid.UID(sop_uid),
        transfer_syntax=ImplicitVRLittleEndian,
    )
    header = file_header(
        sop_class_uid=CTImageStorage, sop_uid=sop_uid, transfer_syntax_uid=ImplicitVRLittleEndian
    )
    assert header == b"\0" * 128 + b"DICM" + encode_file_meta(meta)
    assert pydicom.dcmread(BytesIO(header)).file_meta == meta
