"""Convert films in high dynamic range or a wide gamut to the colours of an ordinary screen: BT.709.

FFmpeg's matrix and range conversions are enough for ordinary films. A file that names no matrix is taken for BT.601, as
FFmpeg and all that build on it do. Phones record more than that by default: HLG, PQ, BT.2020, Display P3. Their colours
go through a table that FFmpeg's `lut3d` applies. The table's formulas are those of the standards. ITU-R BT.2100-2 gives
the light of a code value. BT.2087 gives the primaries by their chromaticities. The EETF of ITU-R BT.2390-8 (5.4.1)
brings brightness down, so that reference white, 203 cd/m2 (BT.2408), stays near the top of the screen's range.
"""

from __future__ import annotations

import functools
import itertools
import logging
import struct
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from faceid.errors import DataError

log = logging.getLogger(__name__)

# Code points of ISO/IEC 23091-2 (H.273), as FFmpeg numbers them.
BT709, BT2020, DISPLAY_P3 = 1, 9, 12
PQ, HLG = 16, 18
_UNSAID = frozenset((0, 2, 3))
# Their names for messages.
TRANSFER_NAMES = {PQ: "PQ", HLG: "HLG"}
PRIMARIES_NAMES = {BT2020: "BT.2020", DISPLAY_P3: "Display P3"}
XY = tuple[float, float]
# Red, green and blue in CIE xy. The white of all three is D65.
_CHROMATICITIES = {
    BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    DISPLAY_P3: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
_D65 = (0.3127, 0.3290)
# The primaries of PAL, NTSC and their kin lie so near that FFmpeg, browsers and players take them for BT.709's.
_ORDINARY_PRIMARIES = _UNSAID | {BT709, 5, 6, 7, 22}
# The power by which a screen shows each ordinary transfer: BT.1886, a plain power, or sRGB.
_GAMMA = {1: 2.4, 4: 2.2, 5: 2.8, 6: 2.4, 7: 2.4, 14: 2.4, 15: 2.4}
_SRGB = 13
_ORDINARY_TRANSFERS = _UNSAID | {*_GAMMA, _SRGB, 11}
# GBR, BT.709, FCC, BT.601 (twice), SMPTE 240M, BT.2020: the matrices for which libswscale has coefficients.
_KNOWN_MATRICES = _UNSAID | {0, 1, 4, 5, 6, 7, 9}
_MATRIX_NAMES = {8: "YCgCo", 10: "BT.2020 constant luminance", 14: "ICtCp", 15: "IPT (Dolby Vision)"}
REFERENCE_WHITE_NITS = 203.0
# The peak of HLG's nominal screen (BT.2100), and of the screens on which nearly all PQ films were graded. It is used
# where the file does not say.
USUAL_PEAK_NITS = 1000.0
# Steps a side of the table. `lut3d` interpolates between them, and is under one level of 255 off, on the mean.
_STEPS = 33


@dataclass(frozen=True)
class Colours:
    """What a picture's code values mean.

    primaries, transfer: H.273 code points. peak_nits: light of the top code value.
    """

    primaries: int
    transfer: int
    peak_nits: float = USUAL_PEAK_NITS

    @property
    def is_hdr(self) -> bool:
        """Whether the picture holds light beyond that of a white sheet of paper."""
        return self.transfer in (PQ, HLG)

    @property
    def are_ordinary(self) -> bool:
        """Whether an ordinary screen shows the code values as they are."""
        return not self.is_hdr and self.primaries in _ORDINARY_PRIMARIES

    def __str__(self) -> str:
        names = (PRIMARIES_NAMES.get(self.primaries), TRANSFER_NAMES.get(self.transfer))
        return ", ".join(name for name in names if name) or "BT.709"


def check_colours(frame: av.VideoFrame, path: Path) -> None:
    """Report which colours are brought to BT.709. Raises: DataError, with the reason, for unknown colours."""
    colours = colours_of(frame)
    problem = why_unknown(colours)
    if problem is None and int(frame.colorspace) not in _KNOWN_MATRICES:
        matrix = int(frame.colorspace)
        problem = f"its colours are coded in {_MATRIX_NAMES.get(matrix, f'matrix {matrix}')}"
    if problem is None and colours.are_ordinary and any(side.type.name == "DOVI_METADATA" for side in frame.side_data):
        # Dolby Vision of kind 8 has an HLG, PQ or ordinary base picture. Kind 5 has none, and names no colours.
        problem = "it is Dolby Vision without an ordinary picture below" if colours.transfer in _UNSAID else None
    if problem is not None:
        raise DataError(f"{path}: {problem}, which is not known here; export it as H.264 in SDR (BT.709)")
    if not colours.are_ordinary:
        log.info("%s: its colours (%s) are brought to BT.709", path, colours)


def why_unknown(colours: Colours) -> str | None:
    """Why code values cannot be brought to BT.709; None where they can."""
    if not (colours.is_hdr or colours.transfer in _ORDINARY_TRANSFERS):
        return f"its transfer function is number {colours.transfer}"
    if colours.primaries not in _ORDINARY_PRIMARIES | set(_CHROMATICITIES):
        return f"its primaries are number {colours.primaries}"
    return None


def are_ordinary(frame: av.VideoFrame) -> bool:
    """Whether an ordinary screen shows a frame's code values as they are."""
    return Colours(int(frame.color_primaries), int(frame.color_trc)).are_ordinary


def colours_of(frame: av.VideoFrame) -> Colours:
    """What a decoded frame states of its colours. PQ's peak comes from its mastering display, within possible limits.

    Call it for a file's first frame only: PyAV keeps a frame whose side data were read until the garbage collector
    comes.
    """
    peak = USUAL_PEAK_NITS
    primaries, transfer = int(frame.color_primaries), int(frame.color_trc)
    if transfer in (PQ, HLG) and primaries in _UNSAID:
        # BT.2100 knows HDR with no other primaries.
        primaries = BT2020
    if transfer == PQ:
        for side in frame.side_data:
            if side.type.name == "MASTERING_DISPLAY_METADATA":
                peak = _mastering_peak(bytes(side)) or peak
    return Colours(primaries, transfer, min(max(peak, REFERENCE_WHITE_NITS), 10_000.0))


def to_bt709(rgb: np.ndarray, colours: Colours) -> np.ndarray:
    """Convert code values [..., 3] in 0..1 to the ones that look alike on an ordinary screen, in 0..1.

    In an ordinary range the transfer stays as it is and only primaries change. Colours that BT.709 cannot show are cut
    off.
    """
    values = np.clip(np.asarray(rgb, np.float64), 0, 1)
    to_light, to_values = _curves(colours)
    light = to_light(values)
    if colours.primaries in _CHROMATICITIES:
        light = light @ primaries_matrix(_CHROMATICITIES[colours.primaries], _D65).T
    return to_values(np.clip(light, 0, 1))


def to_ordinary() -> Callable[[av.VideoFrame], av.VideoFrame]:
    """Make the function from frames to 8-bit RGB in BT.709. Frames of ordinary colours come back as they are."""
    # A graph is for one size and format. A file whose size changes midway gets another graph.
    graphs: dict[Any, av.filter.Graph] = {}

    def convert(frame: av.VideoFrame) -> av.VideoFrame:
        if are_ordinary(frame):
            return frame
        codes = (int(frame.colorspace), int(frame.color_range), int(frame.color_primaries), int(frame.color_trc))
        key = (frame.width, frame.height, frame.format.name, *codes)
        if key not in graphs:
            graphs[key] = _graph(frame, colours_of(frame))
        # A graph wants ascending times, which a broken file does not have.
        frame.pts = None
        graphs[key].push(frame)
        return graphs[key].pull()

    return convert


def _graph(frame: av.VideoFrame, colours: Colours) -> av.filter.Graph:
    graph = av.filter.Graph()
    sides = f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1000"
    source = graph.add("buffer", f"{sides}:colorspace={int(frame.colorspace)}:range={int(frame.color_range)}")
    exact = "bilinear+full_chroma_int+accurate_rnd+bitexact"
    with tempfile.NamedTemporaryFile("w", suffix=".cube") as table:
        table.write(_cube(colours))
        table.flush()
        chain = [
            source,
            graph.add("scale", flags=exact, in_color_matrix=_matrix_name(int(frame.colorspace))),
            graph.add("format", pix_fmts="gbrp16le"),
            graph.add("lut3d", file=table.name, interp="tetrahedral"),
            graph.add("scale", flags=exact),
            graph.add("format", pix_fmts="gbrp"),
            graph.add("buffersink"),
        ]
        for before, after in itertools.pairwise(chain):
            before.link_to(after)
        graph.configure()
    return graph


def _matrix_name(matrix: int) -> str:
    # A film of wide gamut that does not name its matrix has BT.2020's, the matrix made for that gamut.
    return {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 0: "auto"}.get(matrix, "bt2020")


@functools.lru_cache(maxsize=8)
def _cube(colours: Colours) -> str:
    """The table as a .cube file, in which red runs fastest."""
    steps = np.linspace(0, 1, _STEPS)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    rows = to_bt709(np.stack([red, green, blue], -1), colours).reshape(-1, 3)
    return f"LUT_3D_SIZE {_STEPS}\n" + "\n".join(f"{r:.6f} {g:.6f} {b:.6f}" for r, g, b in rows.tolist()) + "\n"


Curve = Callable[[np.ndarray], np.ndarray]


def _curves(colours: Colours) -> tuple[Curve, Curve]:
    """Curves from code values to light, where 1 is the screen's white, and from light back to code values."""
    if colours.transfer == HLG:
        return lambda v: tone_mapped(_hlg_nits(v), USUAL_PEAK_NITS), lambda light: light ** (1 / 2.4)
    if colours.transfer == PQ:
        return lambda v: tone_mapped(_pq_nits(v), colours.peak_nits), lambda light: light ** (1 / 2.4)
    if colours.transfer == _SRGB:
        return _srgb_light, _srgb_values
    gamma = _GAMMA.get(colours.transfer, 2.4)
    return lambda v: v**gamma, lambda light: light ** (1 / gamma)


def _srgb_light(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _srgb_values(light: np.ndarray) -> np.ndarray:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


# BT.2100-2, table 4.
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def _pq_nits(values: np.ndarray) -> np.ndarray:
    powered = values ** (1 / _M2)
    return 10_000 * (np.maximum(powered - _C1, 0) / (_C2 - _C3 * powered)) ** (1 / _M1)


def _pq_values(nits: np.ndarray | float) -> np.ndarray:
    powered = (np.asarray(nits, np.float64) / 10_000) ** _M1
    return ((_C1 + _C2 * powered) / (1 + _C3 * powered)) ** _M2


def _hlg_nits(values: np.ndarray) -> np.ndarray:
    """BT.2100-2, table 5: scene light, then the system gamma of a screen of 1,000 cd/m2."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(values <= 0.5, values**2 / 3, (np.exp((values - c) / a) + b) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593])
    return USUAL_PEAK_NITS * scene * luminance[..., None] ** 0.2


def tone_mapped(nits: np.ndarray, peak_nits: float) -> np.ndarray:
    """Bring the largest of red, green and blue below the screen's white by BT.2390's EETF. Their ratios stay."""
    largest = nits.max(-1, keepdims=True)
    top = _pq_values(REFERENCE_WHITE_NITS) / _pq_values(peak_nits)
    knee = 1.5 * top - 0.5
    source = np.minimum(_pq_values(largest) / _pq_values(peak_nits), 1)
    t = (source - knee) / max(float(1 - knee), 1e-9)
    curved = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * top
    mapped = _pq_nits(np.where(source < knee, source, curved) * _pq_values(peak_nits))
    return nits * mapped / np.maximum(largest, 1e-9) / REFERENCE_WHITE_NITS


def primaries_matrix(rgb: Sequence[XY], white: XY) -> np.ndarray:
    """The matrix from light in these primaries to BT.709's, white to white (Bradford's adaptation).

    Raises: ValueError where no colours have these chromaticities.
    """
    if not all(0 < y <= 1 for _, y in [*rgb, white]):
        raise ValueError(f"primaries of {rgb} and a white of {white}")
    response = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    adapted = np.linalg.inv(response) @ np.diag(response @ _xyz(*_D65) / (response @ _xyz(*white))) @ response
    return np.linalg.solve(_to_xyz(_CHROMATICITIES[BT709], _D65), adapted @ _to_xyz(rgb, white))


def _to_xyz(rgb: Sequence[XY], white: XY) -> np.ndarray:
    columns = np.array([_xyz(*xy) for xy in rgb]).T
    return columns * np.linalg.solve(columns, _xyz(*white))


def _xyz(x: float, y: float) -> np.ndarray:
    return np.array([x / y, 1, (1 - x - y) / y])


def _mastering_peak(data: bytes) -> float | None:
    """The peak in AVMasteringDisplayMetadata: ten rationals, the last being the highest luminance, and two flags."""
    if len(data) < 88:
        return None
    numerator, denominator, _, has_luminance = struct.unpack("=iiii", data[72:88])
    return numerator / denominator if has_luminance and denominator > 0 and numerator > 0 else None
