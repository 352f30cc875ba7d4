"""What highdicom takes from the clock, or must not see: times and the patient's name."""

from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo

from pydicom.dataset import Dataset
from pydicom.valuerep import DA, DT, TM


def local_moment(created_at: datetime, header: Dataset, site: tzinfo = UTC) -> datetime:
    """Return `created_at` as the source's own clock showed it.

    DICOM's dates are local to the object. A source that says its offset from UTC
    (TimezoneOffsetFromUTC) gives it to its results; for the others the time is that of `site`.
    The machine's zone is not asked: the same job must give the same bytes anywhere.
    """
    offset = str(header.get("TimezoneOffsetFromUTC") or "").strip()
    zone = site
    try:
        minutes = int(offset[1:3]) * 60 + int(offset[3:5])
        zone = timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))
    except ValueError:  # none, or not one
        pass
    return created_at.astimezone(zone).replace(microsecond=0)


def day_and_time(moment: datetime) -> tuple[date, time]:
    """Split for highdicom's arguments."""
    return moment.date(), moment.time()


def finish(ds: Dataset, moment: datetime, header: Dataset) -> None:
    """Put the job's time in place of the clock's, and the patient's name in its place.

    highdicom quotes a name that it thinks odd in warnings and logs, so it is handed none.
    """
    ds.InstanceCreationDate, ds.InstanceCreationTime = DA(moment.date()), TM(moment.time())
    ds.PatientName = header.PatientName
    if header.get("TimezoneOffsetFromUTC"):
        ds.TimezoneOffsetFromUTC = header.TimezoneOffsetFromUTC
    for item in ds.get("ContributingEquipmentSequence") or ():
        if item.get("ManufacturerModelName") == "highdicom":
            item.ContributionDateTime = DT(moment.replace(tzinfo=None))
