"""The fifteen organs of AMOS with their codes (SNOMED CT), and the choice behind label 15."""

from dataclasses import replace

from viscera.domain.models import Code, Label

_ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
_RIGHT = Code("24028007", "SCT", "Right")
_LEFT = Code("7771000", "SCT", "Left")


def _organ(
    value: int,
    name: str,
    title: str,
    code: str,
    meaning: str,
    rgb: tuple[int, int, int],
    laterality: Code | None = None,
) -> Label:
    return Label(
        value=value,
        name=name,
        title=title,
        category=_ANATOMY,
        type=Code(code, "SCT", meaning),
        laterality=laterality,
        rgb=rgb,
    )


PROSTATE = _organ(15, "prostate/uterus", "Prostate", "41216001", "Prostate", (230, 158, 140))
UTERUS = _organ(15, "prostate/uterus", "Uterus", "35039007", "Uterus", (255, 181, 158))
PROSTATE_OR_UTERUS = _organ(
    15, "prostate/uterus", "Prostate or uterus", "91772007", "Organ", (230, 158, 140)
)

AMOS: tuple[Label, ...] = (
    _organ(1, "spleen", "Spleen", "78961009", "Spleen", (157, 108, 162)),
    _organ(2, "right kidney", "Right kidney", "64033007", "Kidney", (185, 102, 83), _RIGHT),
    _organ(3, "left kidney", "Left kidney", "64033007", "Kidney", (185, 102, 83), _LEFT),
    _organ(4, "gall bladder", "Gallbladder", "28231008", "Gallbladder", (139, 150, 98)),
    _organ(5, "esophagus", "Esophagus", "32849002", "Esophagus", (211, 171, 143)),
    _organ(6, "liver", "Liver", "10200004", "Liver", (221, 130, 101)),
    _organ(7, "stomach", "Stomach", "69695003", "Stomach", (216, 132, 105)),
    _organ(8, "aorta", "Aorta", "15825003", "Aorta", (224, 97, 76)),
    _organ(9, "postcava", "Inferior vena cava", "64131007", "Inferior vena cava", (0, 151, 206)),
    _organ(10, "pancreas", "Pancreas", "15776009", "Pancreas", (249, 180, 111)),
    _organ(
        11,
        "right adrenal gland",
        "Right adrenal gland",
        "23451007",
        "Adrenal gland",
        (249, 186, 150),
        _RIGHT,
    ),
    _organ(
        12,
        "left adrenal gland",
        "Left adrenal gland",
        "23451007",
        "Adrenal gland",
        (249, 186, 150),
        _LEFT,
    ),
    _organ(13, "duodenum", "Duodenum", "38848004", "Duodenum", (255, 253, 229)),
    _organ(14, "bladder", "Urinary bladder", "89837001", "Bladder", (222, 154, 132)),
    PROSTATE_OR_UTERUS,
)
"""By value from 1, as AMOS numbers them."""


def resolve_by_sex(label: Label, patient_sex: str) -> Label:
    """Return what `label` means in this patient.

    Only a label that the model calls ``prostate/uterus`` is ambiguous: AMOS gave both one value.

    Parameters
    ----------
    label
        Of the model's manifest.
    patient_sex
        PatientSex (0010,0040): ``M``, ``F``, anything else is unknown.
    """
    if label.name != PROSTATE_OR_UTERUS.name:
        return label
    meant = {"M": PROSTATE, "F": UTERUS}.get(patient_sex, PROSTATE_OR_UTERUS)
    return replace(meant, value=label.value)
