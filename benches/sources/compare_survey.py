"""Loading rates of the source `fits` beside astropy, on real files of surveys.

usage: python compare_survey.py ASTROPT DATA

ASTROPT is the program; DATA is a folder with SDSS spectra (`spec-*.fits`), DESI coadds
(`coadd-*.fits`) and Kepler light curves (`kplr*_llc.fits`) somewhere in it. Python needs numpy and
astropy. Both read an object's arrays, again and again for half a second, from files that lie in the
cache of the operating system. One thread each, by processor time.
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from astropy.io import fits


def columns(files, hdu, names):
    """The columns of a table a file."""
    for path in files:
        with fits.open(path, memmap=False) as file:
            yield [np.array(file[hdu].data[name]) for name in names]


def desi(files):
    """Targets of a coadd, the arms put together in order of wavelength."""
    for path in files:
        with fits.open(path, memmap=True) as file:
            wavelength = np.concatenate([file[f"{arm}_WAVELENGTH"].data for arm in "BRZ"])
            order = np.argsort(wavelength, kind="stable")
            for row in range(len(file["FIBERMAP"].data)):
                arrays = [wavelength[order]]
                for name in ("FLUX", "IVAR"):
                    arms = [file[f"{arm}_{name}"].data[row] for arm in "BRZ"]
                    arrays.append(np.concatenate(arms).astype("f4")[order])
                yield arrays


SPECTRUM = 'kind = "spectrum"\nsamples = 8192\nwindow = 64\nbad = "zero"\npositions = "index"'
CURVE = 'kind = "time-series"\nmax_tokens = 8192\npositions = { affine = 90.0 }\nbad = "drop"'


SURVEYS = [
    ("SDSS spectra, a table a file", "spec-*.fits",
     'fields.flux = { hdu = 1, column = "flux" }\nfields.loglam = { hdu = 1, column = "loglam" }\n'
     'fields.ivar = { hdu = 1, column = "ivar" }',
     SPECTRUM, lambda files: columns(files, 1, ("flux", "loglam", "ivar"))),
    ("DESI coadds, three arms, rows", "coadd-*.fits",
     'objects = "row"\narms = { names = ["B", "R", "Z"], along = "wavelength" }\n'
     'fields.flux = { hdu = "{arm}_FLUX" }\nfields.ivar = { hdu = "{arm}_IVAR" }\n'
     'fields.wavelength = { hdu = "{arm}_WAVELENGTH", shared = true }', SPECTRUM, desi),
    ("Kepler light curves, a table a file", "kplr*_llc.fits",
     'fields.time = { hdu = 1, column = "TIME" }\nfields.value = { hdu = 1, column = "PDCSAP_FLUX" }\n'
     'fields.error = { hdu = 1, column = "PDCSAP_FLUX_ERR" }',
     CURVE, lambda files: columns(files, 1, ("TIME", "PDCSAP_FLUX", "PDCSAP_FLUX_ERR"))),
]


def main():
    program, data = sys.argv[1], pathlib.Path(sys.argv[2])
    print("| files | objects | astropt, objects/s | astropy, objects/s | ratio |\n|---|---|---|---|---|")
    for name, pattern, table, modality, read in SURVEYS:
        files = sorted(data.rglob(pattern))
        with tempfile.TemporaryDirectory() as folder:
            listed, recipe = pathlib.Path(folder) / "files.txt", pathlib.Path(folder) / "recipe.toml"
            listed.write_text("".join(f"{path.resolve()}\n" for path in files))
            recipe.write_text(f'extends = "galaxy-grz"\n[source]\nkind = "fits"\n{table}\n'
                              f"[modality.images]\n{modality}\n")
            command = [program, "bench", "data", listed, "--recipe", recipe, "--json"]
            answer = subprocess.run(list(map(str, command)), capture_output=True, text=True)
            if answer.returncode:
                sys.exit(answer.stderr)
        answer = json.loads(answer.stdout)
        ours, objects = answer["arrays_per_second_per_core"], answer["objects"]
        assert sum(1 for _ in read(files)) == objects
        start, passes, spent = time.process_time(), 0, 0
        while spent < 0.5:
            for _ in read(files):
                pass
            passes += 1
            spent = time.process_time() - start
        theirs = objects * passes / spent
        print(f"| {name} | {objects} | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.1f} |", flush=True)


if __name__ == "__main__":
    main()
