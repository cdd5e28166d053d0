"""DICOM whole slide images: one instance per level, JPEG frames, a folder per slide."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage, generate_uid

from tests.tilers.tiffs import Encode, Pixels, jpeg, jpeg_rgb


def write_dicom(
    folder: Path,
    image: Pixels,
    factors: tuple[int, ...] = (1,),
    mpp: float = 0.5,
    tile: int = 256,
    photometric: Literal["YBR_FULL_422", "RGB"] = "YBR_FULL_422",
    coded_rgb: bool = False,
    concatenated: int = 1,
) -> Path:
    """A slide of `image` (h, w, 3): a level per factor, each in so many files. JPEG is YCbCr unless `coded_rgb`."""
    folder.mkdir(parents=True)
    for factor in factors:
        level = np.asarray(Image.fromarray(image).reduce(factor)) if factor > 1 else image
        frames = _frames(level, tile, jpeg_rgb if coded_rgb else jpeg("422"))
        share = -(-len(frames) // concatenated)
        for part in range(concatenated):
            some = frames[part * share : (part + 1) * share]
            instance = _instance(folder.name, factor, part, level.shape, mpp * factor, tile, photometric, some)
            if concatenated > 1:
                instance.ConcatenationUID = generate_uid(entropy_srcs=[folder.name, str(factor)])
                instance.InConcatenationNumber = part + 1
                instance.InConcatenationTotalNumber = concatenated
                instance.ConcatenationFrameOffsetNumber = part * share
            instance.save_as(folder / f"{factor:02d}-{part}.dcm", enforce_file_format=True)
    return folder


def _frames(image: Pixels, tile: int, encode: Encode) -> list[bytes]:
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % tile), (0, -width % tile), (0, 0)), constant_values=255)
    return [encode(padded[y : y + tile, x : x + tile]) for y in range(0, height, tile) for x in range(0, width, tile)]


def _instance(
    name: str,
    factor: int,
    part: int,
    shape: tuple[int, ...],
    mpp: float,
    tile: int,
    photometric: str,
    frames: list[bytes],
) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    made.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    made.SOPInstanceUID = generate_uid(entropy_srcs=[name, str(factor), str(part)])
    made.StudyInstanceUID = generate_uid(entropy_srcs=["study", name])
    made.SeriesInstanceUID = generate_uid(entropy_srcs=["series", name])
    made.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame", name])
    made.Modality = "SM"
    made.ImageType = ["ORIGINAL" if factor == 1 else "DERIVED", "PRIMARY", "VOLUME", "NONE"]
    made.DimensionOrganizationType = "TILED_FULL"
    made.SamplesPerPixel, made.PlanarConfiguration, made.PhotometricInterpretation = 3, 0, photometric
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    made.Rows, made.Columns, made.NumberOfFrames = tile, tile, len(frames)
    made.TotalPixelMatrixRows, made.TotalPixelMatrixColumns = shape[:2]
    made.TotalPixelMatrixFocalPlanes = made.NumberOfOpticalPaths = 1
    made.ImagedVolumeHeight, made.ImagedVolumeWidth = (n * mpp / 1000 for n in shape[:2])
    path = Dataset()
    path.OpticalPathIdentifier = "0"
    made.OpticalPathSequence = [path]
    measures = Dataset()
    measures.PixelSpacing = [mpp / 1000, mpp / 1000]
    groups = Dataset()
    groups.PixelMeasuresSequence = [measures]
    made.SharedFunctionalGroupsSequence = [groups]
    made.PixelData = encapsulate(frames)
    made["PixelData"].is_undefined_length = True
    return made
