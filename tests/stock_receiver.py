"""An unhardened listener, as pynetdicom's documentation writes one; prints its two ports."""

import ssl
import sys
import time
from pathlib import Path

from pynetdicom import AE, AllStoragePresentationContexts, evt

folder, certificate, key = (Path(argument) for argument in sys.argv[1:])


def store(event):
    ds = event.dataset
    ds.file_meta = event.file_meta
    ds.save_as(folder / f"{ds.SOPInstanceUID}.dcm")
    return 0x0000


def serve(ssl_context=None) -> int:
    ae = AE("VISCERA")
    ae.supported_contexts = AllStoragePresentationContexts
    ae.acse_timeout, ae.dimse_timeout, ae.network_timeout = 1, 2, 2
    ae.maximum_associations = 10
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)],
        ssl_context=ssl_context,
    )  # fmt: skip
    return server.server_address[1]


if __name__ == "__main__":
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    print(serve(), serve(context), flush=True)
    while True:
        time.sleep(60)
