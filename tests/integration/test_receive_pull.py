"""`viscera pull` against Orthanc: what it asks for comes by our listener."""

import subprocess
import sys

import pytest
from pydicom.uid import SecondaryCaptureImageStorage

import peers
from instances import STUDY_UID, as_file, ct_dataset

SERIES = {"1.2.3.41": 5, "1.2.3.42": 3}
OTHER = "1.2.3.43"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pull")
    ours = peers.free_port()
    knows = {"ours": ["VISCERA", "127.0.0.1", ours]}
    allows = {"DicomAlwaysAllowFind": True, "DicomAlwaysAllowMove": True}
    with peers.orthanc(folder / "orthanc", DicomModalities=knows, **allows) as pacs:
        series = [ct_dataset(series_uid=u, z_mm=z) for u, n in SERIES.items() for z in range(n)]
        picture = ct_dataset(series_uid=OTHER)
        picture.SOPClassUID = picture.file_meta.MediaStorageSOPClassUID = (
            SecondaryCaptureImageStorage
        )
        picture.Modality = "OT"
        sent = folder / "sent"
        sent.mkdir()
        for number, ds in enumerate([*series, picture]):
            (sent / f"{number}.dcm").write_bytes(as_file(ds))
        assert peers.storescu(pacs.dicom_port, sent, called="ORTHANC").returncode == 0
        config = peers.write_config(
            folder, model_repo=folder, model="none", quiet_s=600.0, peers=("ORTHANC", "MUTE"),
            dicom_port=ours,
        )  # fmt: skip
        asked = f'name = "orthanc"\nhost = "127.0.0.1"\nport = {pacs.dicom_port}\n'
        text = config.read_text().replace('name = "orthanc"\n', asked)
        config.write_text(text.replace("[dicom]\n", "[dicom]\nprocesses = 1\n"))
        yield config


def pull(config, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "viscera", "--config", str(config), "pull", *arguments],
        env={**peers.ENVIRONMENT, **environment}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


def test_ct_series_of_a_study_come_and_nothing_else(site):
    folder = site.parent
    with peers.service(site, "receive", folder=folder, ready="role_ready"):
        done = pull(site, STUDY_UID, "--from", "ORTHANC")
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        told = [f"{uid}  CT  {number} instances" for uid, number in SERIES.items()]
        assert sorted(lines[:-1]) == told
        assert lines[-1].startswith("2 series asked for, 1 others left")
        kept = list((folder / "spool" / "dicom" / "orthanc").glob("*/*.dcm"))
        assert len(kept) == sum(SERIES.values())
        assert len({path.parent for path in kept}) == len(SERIES)

        nothing = pull(site, "1.2.3.999", "--from", "orthanc")
        assert (nothing.returncode, nothing.stdout) == (1, "")
        assert "no CT or MR series" in nothing.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        ([STUDY_UID, "--from", "nobody"], {}, "InvalidRequest: dicom.peers has no nobody"),
        ([STUDY_UID, "--from", "mute"], {}, "InvalidRequest: dicom.peers: mute has no host"),
        (["*", "--from", "orthanc"], {}, "InvalidRequest: a Study Instance UID"),
        (
            [STUDY_UID, "--from", "orthanc"],
            {"VISCERA_DICOM__AE_TITLE": "STRANGER"},
            "PeerRefused: orthanc",
        ),
        # No listener runs now.
        ([STUDY_UID, "--from", "orthanc"], {}, "does our listener run"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(site, arguments, environment, says):
    done = pull(site, *arguments, **environment)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_pacs_that_is_not_there(site, tmp_path):
    gone = tmp_path / "viscera.toml"
    lines = site.read_text().splitlines()
    at = next(n for n, line in enumerate(lines) if line == 'host = "127.0.0.1"' and n > 3)
    lines[at + 1] = f"port = {peers.free_port()}"
    gone.write_text("\n".join(lines))
    done = pull(gone, STUDY_UID, "--from", "orthanc")
    assert done.returncode == 2
    assert "PeerUnreachable: orthanc does not answer at 127.0.0.1" in done.stderr
