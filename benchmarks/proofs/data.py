"""What preparing data promises: bytes, damage, scale and speed, each beside its naive control."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import REPOSITORY
from benchmarks.faults.flipped_bits import flip_bits
from benchmarks.proofs.proof import Proof, Work
from benchmarks.proofs.rows import Row, Seen
from benchmarks.speed.data_scale import SIZES, measure_sizes, slope
from benchmarks.speed.data_speed import Loaders, MissingError, compare_loaders, import_imageio

OUT = REPOSITORY / "outputs" / "prove_data"


@dataclass(frozen=True)
class Sizes:
    """How much is run. rounds: of every comparison, two measurements of each way a round."""

    flips: int
    rounds: int


SMALL, FULL = Sizes(flips=300, rounds=2), Sizes(flips=2_000, rounds=5)


def _speed(work: Work) -> list[Seen] | list[Row]:
    sizes = work.choose(SMALL, FULL)
    try:
        loaders = Loaders(work.folder, import_imageio(OUT / "imageio"))
    except MissingError as error:
        what = "CPU seconds a clip, against a naive loader"
        return [Row(what, "6, 2 and 20 times fewer", str(error), "not shown", 0.0)]
    figures = work.details["speed"] = compare_loaders(loaders, sizes.rounds)
    seconds = {name: found["median"] for name, found in figures["cpu_s"].items()}

    def row(what: str, naive: str, ours: str, least: float, beside: str) -> Seen:
        ratio = seconds[naive] / seconds[ours]
        measured = f"{seconds[naive]:.3f} / {seconds[ours]:.4f} CPU s: {ratio:.1f} times ({beside})"
        return f"{what}: CPU seconds a clip, naive loader / ours", f"at least {least:g} times", measured, ratio >= least

    one_pass = seconds["film_in_one_pass"] / seconds["film_by_ours"]
    film = (
        f"{figures['film_mbit_per_s']} Mbit/s, {figures['film_s']:g} s long; {one_pass:.1f} times without counting "
        f"frames; PSNR {figures['film_psnr_db']} dB, {figures['film_psnr_db_one_frame_off']} dB one frame off"
    )
    clip = f"PSNR {figures['clip_psnr_db']} dB"
    latents = f"video and pose; once in a run, the checksum takes {seconds['verify_latents']:.4f} s a clip"
    return [
        row("from a 1080p60 film", "film_naively", "film_by_ours", 6, film),
        row("from a ready 480x832 clip", "clip_naively", "clip_by_ours", 2, clip),
        row("from latents, naive from the ready clip", "clip_naively", "latents_by_ours", 20, latents),
    ]


def _scale(work: Work) -> list[Seen]:
    sizes = work.choose(SMALL, FULL)
    found = measure_sizes(work.folder, sizes.rounds)
    work.details["scale"] = {str(size): figures for size, figures in found.items()}
    most = found[SIZES[-1]]

    def by_size(name: str, form: str) -> str:
        return " / ".join(format(found[size][name], form) for size in SIZES)

    opened, memory = by_size("open_s", ".3f"), by_size("peak_mb", ".0f")
    later, growth = by_size("later_sample_ms", ".2f"), slope(found, "later_sample_ms", *SIZES[1:])
    ready = {size: figures["training_set_s"] + figures["first_batch_s"] for size, figures in found.items()}
    first = " / ".join(f"{ready[size]:.3f}" for size in SIZES)
    what = f"{' / '.join(f'{size:,}' for size in SIZES)} clips"
    return [
        (f"{what}: seconds to open", "100,000 under 2 s", f"{opened} s", most["open_s"] < 2),
        (
            f"{what}: memory at most while opening",
            "100,000 under 300 MB",
            f"{memory} MB, of an index of {by_size('index_mb', '.1f')} MB",
            most["peak_mb"] < 300,
        ),
        (
            f"{what}: a sample takes as long, however many there are",
            "slope of log time from 1,000 to 100,000 at most 0.1",
            f"{growth:.2f}: {later} ms; from open to the first batch {first} s",
            growth <= 0.1,
        ),
    ]


def _flips(work: Work) -> list[Seen]:
    sizes = work.choose(SMALL, FULL)
    figures = work.details["flips"] = flip_bits(work.folder, sizes.flips, seed=0)
    beside = ", ".join(f"{count} {what}" for what, count in figures["webdataset"].items())
    measured = f"{figures['noticed']} of {figures['flips']} (webdataset's reader, strictest handler: {beside})"
    whole = figures["webdataset_reads_the_whole_shard"]
    return [
        ("single-bit flips in a shard are noticed", "all", measured, figures["noticed"] == figures["flips"]),
        (
            "the undamaged shard, read by webdataset's own reader",
            "all keys, members equal",
            f"{figures['samples']} clips, {'equal' if whole else 'not equal'}",
            whole,
        ),
    ]


PROOF = Proof("data", (_speed, _scale, _flips))
