"""Checks the maps of `core/src/umap` with umap-learn's.

    cargo build --release -p astropt-core --example umap
    python tests/python/check_umap.py --umap target/release/examples/umap \\
        [--efigi FOLDER] [--embeddings FILE.npy ...]

Both make maps with 15 neighbours, min_dist 0.1 and several seeds of the same numbers:
scikit-learn's digits and swiss roll, clusters, every `--embeddings` array of
`[n, width]` (such as a run's embeddings.npy) and, with `--efigi`, the pixels of its stamps.
scikit-learn's trustworthiness of the maps, for 15 neighbours, must agree within 0.02, and this
program's trustworthiness with scikit-learn's of the same map within 1e-4. Needs umap-learn,
scikit-learn, and Pillow for `--efigi`.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np
from sklearn.datasets import load_digits, make_blobs, make_swiss_roll
from sklearn.manifold import trustworthiness

TOLERANCE = 0.02
NEIGHBOURS = 15


def stamps(folder, size=32):
    """Pixels of the stamps in a folder, made `size` wide, one row each."""
    from PIL import Image

    paths = sorted(p for p in folder.rglob("*") if p.suffix in (".png", ".jpg"))
    rows = [np.asarray(Image.open(p).convert("RGB").resize((size, size))).ravel() for p in paths]
    return np.array(rows, np.float32) / 255


def datasets(arguments):
    yield "digits, 1,797 x 64", load_digits().data
    yield "swiss roll, 3,000 x 3", make_swiss_roll(3000, noise=0.05, random_state=0)[0]
    yield "ten clusters, 4,000 x 256", make_blobs(4000, 256, centers=10, random_state=0)[0]
    if arguments.efigi:
        pixels = stamps(arguments.efigi)
        yield f"EFIGI stamps, {len(pixels):,} x {pixels.shape[1]:,}", pixels
    for path in arguments.embeddings:
        vectors = np.load(path)
        vectors = vectors.reshape(len(vectors), -1)
        yield f"{path.parent.name}/{path.name}, {len(vectors):,} x {vectors.shape[1]:,}", vectors


def ours(program, x, seed):
    """Our map, its trustworthiness as we compute it, and the seconds it took."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = f"{folder}/in.npy", f"{folder}/out.npy"
        np.save(source, x)
        done = subprocess.run([program, source, target, str(seed)], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(done.stderr)
        trust, seconds, _ = map(float, done.stderr.split())
        return np.load(target), trust, seconds


def theirs(x, seed):
    """umap-learn's map, and the seconds it took."""
    import umap

    start = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        places = umap.UMAP(n_neighbors=NEIGHBOURS, min_dist=0.1, random_state=seed).fit_transform(x)
    return places, time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--umap", required=True, help="the built example")
    parser.add_argument("--efigi", type=pathlib.Path, help="a folder of stamps")
    parser.add_argument("--embeddings", type=pathlib.Path, nargs="*", default=[])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    theirs(load_digits().data[:100], 0)  # compiled before it is timed
    worst = 0.0
    print("| data | trustworthiness here | umap-learn | seconds here | umap-learn |")
    print("|---|---|---|---|---|")
    for name, x in datasets(arguments):
        x = np.ascontiguousarray(x, np.float32)
        scores, seconds = [[], []], [[], []]
        for seed in range(arguments.seeds):
            places, stated, took = ours(arguments.umap, x, seed)
            scores[0].append(trustworthiness(x, places, n_neighbors=NEIGHBOURS))
            seconds[0].append(took)
            if abs(stated - scores[0][-1]) > 1e-4:
                sys.exit(f"{name}: trustworthiness {stated}, by scikit-learn {scores[0][-1]}")
            places, took = theirs(x, seed)
            scores[1].append(trustworthiness(x, places, n_neighbors=NEIGHBOURS))
            seconds[1].append(took)
        here, there = (f"{np.mean(s):.4f} ({min(s):.4f} to {max(s):.4f})" for s in scores)
        times = " | ".join(f"{np.median(s):.1f}" for s in seconds)
        print(f"| {name} | {here} | {there} | {times} |", flush=True)
        worst = max(worst, np.mean(scores[1]) - np.mean(scores[0]))
    print(f"largest shortfall {worst:.4f}, {TOLERANCE} allowed")
    sys.exit(int(worst > TOLERANCE))


if __name__ == "__main__":
    main()
