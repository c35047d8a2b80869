"""Loading rates of the sources `table`, `npz` and `fits` (its tables) beside pandas, NumPy and
astropy, on made files.

usage: python compare_tables.py RATE [OBJECTS]

RATE is the program that `cargo bench -p astropt-modalities --bench rate --no-run` names; Python
needs numpy, pandas, pyarrow and astropy. Python opens a file, groups its rows and hands out an object's
arrays, as a data set for training does; both are timed from opening to the last object, on files
that lie in the cache of the operating system. One thread each.
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import pandas as pd
from astropy.io import fits

CURVE = ('object = "id"\nsort = "time"\nfields.time = "mjd"\nfields.value = "mag"\n'
         'fields.error = "magerr"\nfields.band = { column = "filter", codes = ["g", "r", "i"] }')
CODES = {"g": 0, "r": 1, "i": 2}


def curves(objects, scattered):
    """Light curves of about 100 samples, one object after the other or in order of time."""
    r = np.random.default_rng(0)
    lengths = r.integers(50, 150, objects)
    rows = int(lengths.sum())
    table = pd.DataFrame({
        "id": np.repeat([f"ZTF{k:09}" for k in range(objects)], lengths),
        "mjd": r.uniform(58000, 60000, rows),
        "mag": r.normal(18, 1, rows),
        "magerr": r.uniform(0.01, 0.2, rows),
        "filter": r.choice(list("gri"), rows),
    })
    return table.sort_values("mjd") if scattered else table


def group(table):
    """What a data set of light curves does in pandas."""
    for _, one in table.groupby("id", sort=False):
        one = one.sort_values("mjd", kind="stable")
        one.mjd.to_numpy(), one["mag"].to_numpy(), one.magerr.to_numpy()
        one["filter"].map(CODES).to_numpy()


def files(folder, objects):
    """Writes every layout; yields its name, the source and a reader in Python."""
    for name, scattered in (("by object", False), ("by time", True)):
        table = curves(objects, scattered)
        csv, parquet = folder / f"{scattered}.csv", folder / f"{scattered}.parquet"
        table.to_csv(csv, index=False)
        table.to_parquet(parquet, index=False)
        yield f"CSV sorted {name}", "table", csv, CURVE, lambda p=csv: group(pd.read_csv(p))
        yield (f"Parquet sorted {name}", "table", parquet, CURVE,
               lambda p=parquet: group(pd.read_parquet(p)))
    flux = np.random.default_rng(0).normal(size=(objects, 4300)).astype("f4")
    for name, save in (("stored", np.savez), ("deflated", np.savez_compressed)):
        path = folder / f"{name}.npz"
        save(path, flux=flux)

        def read(path=path):
            with np.load(path) as arrays:
                for one in arrays["flux"]:
                    one.copy()

        yield f"npz, {name}", "npz", path, "", read


    yield from fits_tables(folder, flux)


def fits_tables(folder, flux):
    """Spectra in binary tables: a row of one table each, and a file each as SDSS has them."""
    samples = flux.shape[1]
    rows = folder / "rows.fits"
    column = fits.Column(name="FLUX", format=f"{samples}E", array=flux)
    fits.BinTableHDU.from_columns([column]).writeto(rows)

    def read_rows():
        with fits.open(rows, memmap=True) as file:
            for k in range(len(flux)):
                np.array(file[1].data["FLUX"][k], dtype="f4")

    row = 'objects = "row"\nfields.flux = { hdu = 1, column = "FLUX" }'
    yield "fits, rows of a table", "fits", rows, row, read_rows
    place = folder / "spec"
    place.mkdir()
    for k, one in enumerate(flux):
        names = ("flux", "loglam", "ivar")
        columns = [fits.Column(name=name, format="E", array=one) for name in names]
        hdus = [fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]
        fits.HDUList(hdus).writeto(place / f"{k:05}.fits")

    def read_files():
        for path in sorted(place.iterdir()):
            with fits.open(path, memmap=False) as file:
                for name in ("flux", "loglam", "ivar"):
                    np.array(file[1].data[name], dtype="f4")

    fields = "\n".join(f'fields.{name} = {{ hdu = 1, column = "{name}" }}' for name in names)
    yield "fits, a table a file", "fits", place, fields, read_files


def main():
    rate, objects = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5000
    print("| layout | astropt, objects/s | Python, objects/s | ratio |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, kind, path, table, read in files(pathlib.Path(folder), objects):
            command = [rate, kind, f"path = {path.name!r}\n{table}", folder]
            # The program's first reading is the one that decodes; its time is that of opening
            # and reading once.
            start = time.perf_counter()
            answer = subprocess.run(command, check=True, capture_output=True, text=True)
            both = time.perf_counter() - start
            answer = json.loads(answer.stdout)
            ours = answer["objects"] / (both - answer["passes"] * answer["read"])
            start = time.perf_counter()
            read()
            theirs = objects / (time.perf_counter() - start)
            print(f"| {name} | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.2f} |", flush=True)


if __name__ == "__main__":
    main()
