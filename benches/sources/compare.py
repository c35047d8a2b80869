"""Loading rates of the sources `fits` and `hdf5` beside astropy and h5py, on made files.

usage: python compare.py ASTROPT [OBJECTS]

ASTROPT is the program; Python needs numpy, astropy and h5py. Both read objects as arrays, each
file once before the clock starts, so that it comes from the cache of the operating system. One
thread each, by processor time, so that other work on the machine counts against neither.
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import h5py
import numpy as np
from astropy.io import fits

SIZE, BANDS = 96, 3


def images(objects):
    """Smooth galaxies with noise, in bytes: [objects, SIZE, SIZE, BANDS]."""
    r = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    light = np.exp(-(x**2 + y**2) / 300)[None, :, :, None] * r.uniform(80, 200, (objects, 1, 1, BANDS))
    return np.clip(light + r.normal(20, 4, light.shape), 0, 255).astype("u1")


def files(folder, stack):
    """Writes every layout; yields its name, the table of the source and a reader in Python."""
    flux = np.ascontiguousarray(stack.transpose(0, 3, 1, 2)).astype("f4")
    for name, hdu in (("plain", fits.ImageHDU), ("rice", fits.CompImageHDU)):
        place = folder / name
        place.mkdir()
        for k, cube in enumerate(flux):
            kind = {} if name == "plain" else {"compression_type": "RICE_1", "tile_shape": (1, 16, SIZE)}
            data = cube if name == "plain" else cube.astype("i2")
            fits.HDUList([fits.PrimaryHDU(), hdu(data, **kind)]).writeto(place / f"{k:05}.fits")

        def read(place=place):
            for path in sorted(place.iterdir()):
                with fits.open(path, memmap=False) as file:
                    np.ascontiguousarray(file[1].data.transpose(1, 2, 0))

        yield f"fits, {name}, one file each", "fits", place, "fields.image = { hdu = 1 }", read
    cube = folder / "cube.fits"
    fits.PrimaryHDU(flux).writeto(cube)

    def read_cube():
        with fits.open(cube, memmap=True) as file:
            for k in range(len(flux)):
                np.ascontiguousarray(file[0].data[k].transpose(1, 2, 0), dtype="f4")

    yield "fits, rows of a cube", "fits", cube, 'objects = "row"\nfields.image = { hdu = 0 }', read_cube
    layouts = [
        ("one image a chunk, gzip", "earliest", {"chunks": (1, SIZE, SIZE, BANDS), "compression": "gzip"}),
        # More runs of chunks than are kept, so that every one is decoded in the timed pass.
        ("chunks across images, gzip", "earliest", {"chunks": (8, 32, 32, 1), "compression": "gzip"}),
        ("not chunked", "earliest", {}),
        ("one image a chunk, gzip, latest", "latest", {"chunks": (1, SIZE, SIZE, BANDS), "compression": "gzip"}),
    ]
    for k, (name, version, options) in enumerate(layouts):
        path = folder / f"{k}.h5"
        with h5py.File(path, "w", libver=version) as file:
            file.create_dataset("images", data=stack, **options)

        def read(path=path):
            with h5py.File(path) as file:
                data = file["images"]
                step = data.chunks[0] if data.chunks else 1
                for first in range(0, len(data), step):
                    data[first : first + step]

        yield f"hdf5, {name}", "hdf5", path, 'fields.image = { dataset = "images" }', read


def rate(objects, read):
    """Objects per second of processor time, over at least half a second of it."""
    start, passes, spent = time.process_time(), 0, 0
    while spent < 0.5:
        read()
        passes += 1
        spent = time.process_time() - start
    return passes * objects / spent


def main():
    program, objects = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 600
    print("| layout | astropt, objects/s | Python, objects/s | ratio |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name, kind, path, table, read in files(folder, images(objects)):
            recipe = folder / "recipe.toml"
            recipe.write_text(
                f'extends = "galaxy-grz"\n[source]\nkind = "{kind}"\npath = "."\n{table}\n'
                f"[modality.images]\nsize = {SIZE}\npatch = 16\npositions = {(SIZE // 16) ** 2}\n"
            )
            command = [program, "bench", "data", path, "--recipe", recipe, "--objects", objects, "--json"]
            answer = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
            ours = json.loads(answer.stdout)["arrays_per_second_per_core"]
            read()
            theirs = rate(objects, read)
            print(f"| {name} | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.2f} |", flush=True)


if __name__ == "__main__":
    main()
