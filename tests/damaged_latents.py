"""Latent shards to damage: the toy's clips, one in each shard; and a clip changed with a checksum that fits."""

import shutil

from safetensors.torch import load, save

from faceid.data.shards.index import ShardIndex
from faceid.data.shards.shard_writer import Entry, shard_name, write_index, write_shard


def one_clip_per_shard(source, folder, count):
    """`count` clips made of those of `source`, of three dancers; returns the folder."""
    shutil.copytree(source, folder)
    index = ShardIndex.load(folder, "latents")
    data = [index.read(number, "safetensors") for number in range(len(index))]
    prompt = next(iter(index.header["prompt_of"].values()))
    keys = [f"clip_{number:02d}" for number in range(count)]
    _write(
        folder, index, {key: data[number % len(data)] for number, key in enumerate(keys)}, dict.fromkeys(keys, prompt)
    )
    return folder


def rewrite_clip(folder, number, change):
    """Change the tensors of one clip of a folder that `one_clip_per_shard` made."""
    index = ShardIndex.load(folder, "latents")
    contents = {sample.key: index.read(place, "safetensors") for place, sample in enumerate(index.samples)}
    key = index.samples[number].key
    tensors = load(contents[key])
    change(tensors)
    _write(folder, index, contents | {key: save(tensors)}, index.header["prompt_of"])


def _write(folder, index, contents, prompt_of):
    records = []
    for number, (key, data) in enumerate(contents.items()):
        labels = {"frames": 9, "dancer": f"d{number % 3}", "genre": None, "camera": None}
        entry = Entry(key, {"safetensors": data, "json": b"{}"}, labels)
        records.append(write_shard(folder / shard_name("latents", number), "made by a test", [entry], []))
    header = {name: value for name, value in index.header.items() if name not in ("kind", "version")}
    write_index(folder, "latents", header | {"prompt_of": prompt_of}, records)
