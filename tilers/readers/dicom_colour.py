"""Whether a DICOM slide's frames hold the colours that its header names.

OpenSlide believes the header: JPEG frames in YCbCr under the name RGB come out purple and green, without an error.
"""

from __future__ import annotations

from pathlib import Path

import simplejpeg
from pydicom import dcmread
from pydicom.encaps import generate_fragments, parse_basic_offsets
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit

_JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit)
_PIXEL_DATA_HEADER = 12
"""Bytes of tag, VR and length in front of encapsulated frames (DICOM PS3.5, 7.1.2)."""


class ContradictedColours(Exception):
    """A header that says RGB over frames that are YCbCr."""


def check_colours(instance: Path) -> None:
    """Compare an instance's photometric interpretation with what libjpeg finds in its first frame.

    Raises:
        ContradictedColours: they differ.
    """
    with instance.open("rb") as file:
        header = dcmread(file, stop_before_pixels=True)
        shown = "VOLUME" in header.get("ImageType", ())
        stated = header.get("PhotometricInterpretation")
        if not shown or stated != "RGB" or header.file_meta.TransferSyntaxUID not in _JPEG:
            return
        file.seek(_PIXEL_DATA_HEADER, 1)
        parse_basic_offsets(file)
        found = simplejpeg.decode_jpeg_header(next(generate_fragments(file)))[2]
    if found != "RGB":
        raise ContradictedColours(
            f"{instance.name} says its colours are RGB, its JPEG frames are {found}; "
            "set PhotometricInterpretation to YBR_FULL_422 in a copy"
        )
