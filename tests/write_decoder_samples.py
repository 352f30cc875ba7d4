"""Write service/viscera/volume/samples: one tiny CT slice in every transfer syntax that we take.

Run once, by hand, when a syntax is added: needs dcmtk under /usr/bin and, for HTJ2K, the package
``imagecodecs`` (BSD; in no lock file). None of the encoders is one of our decoders' own, except
OpenJPEG for JPEG 2000; `tests/unit/volume/test_decoder_proof.py` has others read the files.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from viscera.volume.proof import FOLDER, SAMPLES, SOP_UID, Sample

_DCMTK = {
    "1.2.840.10008.1.2": ["dcmconv", "+ti"],
    "1.2.840.10008.1.2.1": ["dcmconv", "+te"],
    "1.2.840.10008.1.2.2": ["dcmconv", "+tb"],
    "1.2.840.10008.1.2.5": ["dcmcrle"],
    "1.2.840.10008.1.2.4.50": ["dcmcjpeg", "+eb", "+q", "95"],
    "1.2.840.10008.1.2.4.51": ["dcmcjpeg", "+ee", "+bt", "+q", "95"],
    "1.2.840.10008.1.2.4.57": ["dcmcjpeg", "+el"],
    "1.2.840.10008.1.2.4.70": ["dcmcjpeg", "+e1"],
    "1.2.840.10008.1.2.4.80": ["dcmcjpls", "+el"],
    "1.2.840.10008.1.2.4.81": ["dcmcjpls", "+en", "+md", "2"],
}
_OPENJPEG = {"1.2.840.10008.1.2.4.90": {}, "1.2.840.10008.1.2.4.91": {"j2k_cr": [3]}}
_HTJ2K = {
    "1.2.840.10008.1.2.4.201": {"reversible": True},
    "1.2.840.10008.1.2.4.202": {"reversible": True, "tlm": True},
    "1.2.840.10008.1.2.4.203": {"reversible": False, "level": 0.00002},
}


def plain(sample: Sample) -> Dataset:
    """Return the sample's slice, uncompressed."""
    stored = sample.stored()
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, SOP_UID
    ds.Modality = "CT"
    ds.Rows, ds.Columns = stored.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = 8 * stored.dtype.itemsize
    ds.BitsStored, ds.HighBit = sample.bits_stored, sample.bits_stored - 1
    ds.PixelRepresentation = int(stored.dtype.kind == "i")
    ds.RescaleSlope, ds.RescaleIntercept = "1", "0"
    words = stored & 0xFFF if sample.kind == "signed12" else stored
    ds.PixelData = words.astype(stored.dtype).tobytes()
    ds["PixelData"].VR = "OW" if ds.BitsAllocated == 16 else "OB"
    return ds


def write(sample: Sample) -> None:
    """Encode one sample into its file."""
    ds, path = plain(sample), FOLDER / sample.file
    uid = sample.transfer_syntax_uid
    if uid in _OPENJPEG:
        ds.compress(uid, generate_instance_uid=False, **_OPENJPEG[uid])
    elif uid in _HTJ2K:
        import imagecodecs

        codestream = imagecodecs.htj2k_encode(sample.stored(), **_HTJ2K[uid])
        ds.PixelData = encapsulate([codestream])
        ds["PixelData"].VR = "OB"
        ds.file_meta.TransferSyntaxUID = uid
    ds.save_as(path, enforce_file_format=True)
    if uid in _DCMTK:
        program, *options = _DCMTK[uid]
        subprocess.run([f"/usr/bin/{program}", *options, str(path), str(path)], check=True)
        _keep_uid(path)


def _keep_uid(path: Path) -> None:
    """Undo what lossy encoders change besides the pixels: the SOP Instance UID."""
    ds = dcmread(path)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = SOP_UID
    ds.save_as(path, enforce_file_format=True)


def main() -> None:
    """Write all samples, or those of the syntaxes named on the command line."""
    FOLDER.mkdir(exist_ok=True)
    for sample in SAMPLES:
        if not sys.argv[1:] or sample.transfer_syntax_uid in sys.argv[1:]:
            write(sample)
            size = (FOLDER / sample.file).stat().st_size
            print(f"{sample.file}: {size} bytes, {np.ptp(sample.stored())} wide")


if __name__ == "__main__":
    main()
