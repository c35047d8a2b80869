"""Loading rates from Parquet, of this program and of `datasets`, turn about on one core.

usage: python benches/sources/parquet.py ASTROPT [ROWS] [ROUNDS]

ASTROPT is the program. It reads a file of JPEGs of 256 x 256 pixels, in row groups of 100
as the `datasets` library writes them, decodes them and makes tokens of them; Python streams
and decodes them through `datasets`, as the Python AstroPT does, and makes no tokens. The source
`hub` reads the same files, once they are here, in the same way. Prints the rates, their ratio
and the memory of either. Needs numpy, pyarrow, pillow and datasets.
"""

import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

if "--python" in sys.argv or "--make" in sys.argv:
    # Not in the process that starts the others: a child's largest memory counts its parent's.
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

SIZE = 256
RECIPE = """
name = "bench"
extends = "galaxy-grz"
[source]
kind = "parquet"
path = "{path}"
[modality.images]
size = 256
positions = 256
"""


def jpeg(rng, place):
    """A galaxy of no particular kind, with noise."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    light = 220 * np.exp(-np.hypot(x, y * (1 + place % 3)) / (8 + place % 17))
    pixels = light[..., None] * rng.uniform(0.5, 1, 3) + rng.normal(12, 5, (SIZE, SIZE, 3))
    out = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
    return out.getvalue()


def make(path, rows):
    rng = np.random.default_rng(0)
    images = [{"bytes": jpeg(rng, k), "path": None} for k in range(rows)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {"image": pa.array(images, kind)}
    columns |= {f"label_{k}": rng.normal(size=rows) for k in range(20)}
    pq.write_table(pa.table(columns), path, row_group_size=100, compression="snappy")


def python(path):
    """Images a second of processor time, in a process of its own."""
    import datasets

    start = time.process_time()
    rows = datasets.load_dataset("parquet", data_files=path, split="train", streaming=True)
    count = 0
    for row in rows.cast_column("image", datasets.Image()):
        np.asarray(row["image"])
        count += 1
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"rate": count / (time.process_time() - start), "memory": memory}


def answer(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    program, rows, rounds = (sys.argv[1:] + ["1000", "5"][len(sys.argv) - 2 :])[:3]
    rounds = int(rounds)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "galaxies.parquet")
        recipe = os.path.join(folder, "bench.toml")
        subprocess.run([sys.executable, __file__, "--make", path, rows], check=True)
        with open(recipe, "w") as file:
            file.write(RECIPE.format(path=path))
        ours = [program, "bench", "data", path, "--recipe", recipe, "--objects", rows, "--json"]
        theirs = [sys.executable, __file__, "--python", path]
        found = {"astropt": [], "datasets": []}
        for _ in range(rounds):
            times = answer(ours)
            found["astropt"].append((times["images_per_second_per_core"], times["peak_rss_bytes"]))
            times = answer(theirs)
            found["datasets"].append((times["rate"], times["memory"]))
    rates = {name: statistics.median(rate for rate, _ in runs) for name, runs in found.items()}
    for name, runs in found.items():
        memory = max(memory for _, memory in runs) / 1e6
        print(f"{name}: {rates[name]:.0f} images/s, {memory:.0f} MB")
    print(f"ratio: {rates['astropt'] / rates['datasets']:.2f}")


if __name__ == "__main__":
    if sys.argv[1] == "--python":
        print(json.dumps(python(sys.argv[2])))
    elif sys.argv[1] == "--make":
        make(sys.argv[2], int(sys.argv[3]))
    else:
        main()
