"""Loading rates from the Hugging Face hub's API, of this program and of `datasets`, turn about.

usage: python benches/sources/hub.py ASTROPT [ROWS] [ROUNDS]

A server on this machine speaks the part of the API that both ask for and hands out two shards of
JPEGs of 256 x 256 pixels. Each program begins with an empty cache and goes through all images
once: this one fetches the shards, checks their hashes, decodes and makes tokens on one thread and
writes them (`astropt convert`, the whole process); Python streams (`load_dataset(...,
streaming=True)`) and decodes, its imports not counted. Seconds are on the clock, in which the
server works too. Prints the rates and their ratio. Needs numpy, pyarrow, pillow and datasets.
"""

import hashlib
import http.server
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

REPO = "made/galaxies"
COMMIT = "c0ffee" + 34 * "0"
RECIPE = """
extends = "galaxy-grz"
[source]
kind = "hub"
repo = "{repo}"
fields = {{ image = "image" }}
[modality.images]
size = 256
patch = 16
positions = 256
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """What both programs ask of the hub."""

    protocol_version = "HTTP/1.1"
    files: dict[str, bytes] = {}

    def log_message(self, *_):
        pass

    def entry(self, path):
        data = self.files[path]
        digest = hashlib.sha256(data).hexdigest()
        return {"type": "file", "path": path, "size": len(data), "oid": digest[:40],
                "lfs": {"oid": digest, "size": len(data), "pointerSize": 130}}

    def send(self, status, body, headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, value):
        self.send(200, json.dumps(value).encode(), [("Content-Type", "application/json")])

    def answer(self):
        path = urllib.parse.unquote(urllib.parse.urlparse(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if match := re.fullmatch(rf"/datasets/{REPO}/resolve/[^/]+/(.+)", path):
            self.file(match[1])
        elif re.fullmatch(rf"/api/datasets/{REPO}(/revision/[^/]+)?", path):
            names = [{"rfilename": name} for name in self.files]
            self.json({"id": REPO, "sha": COMMIT, "siblings": names, "private": False, "tags": []})
        elif match := re.fullmatch(rf"/api/datasets/{REPO}/tree/[^/]+(?:/(.*))?", path):
            folder = f"{match[1]}/" if match[1] else ""
            self.json([self.entry(name) for name in self.files if name.startswith(folder)])
        elif re.fullmatch(rf"/api/datasets/{REPO}/paths-info/[^/]+", path):
            asked = urllib.parse.parse_qs(body.decode()).get("paths", [])
            if not asked and body[:1] == b"{":
                asked = json.loads(body)["paths"]
            self.json([self.entry(name) for name in asked if name in self.files])
        else:
            self.send(404, b"{}", [("X-Error-Code", "EntryNotFound")])

    def file(self, name):
        if name not in self.files:
            return self.send(404, b"", [("X-Error-Code", "EntryNotFound")])
        data, status, headers = self.files[name], 200, []
        headers += [("ETag", f'"{hashlib.sha256(data).hexdigest()}"'), ("X-Repo-Commit", COMMIT)]
        headers += [("X-Linked-Size", str(len(data))), ("Accept-Ranges", "bytes")]
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            first, last = int(match[1]), int(match[2] or len(data) - 1)
            headers.append(("Content-Range", f"bytes {first}-{last}/{len(data)}"))
            data, status = data[first : last + 1], 206
        return self.send(status, data, headers)

    do_GET = do_HEAD = do_POST = answer


def serve():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def python():
    """Images of the dataset, streamed and decoded."""
    import datasets
    import numpy as np

    start = time.perf_counter()
    rows = datasets.load_dataset(REPO, split="train", streaming=True)
    count = 0
    for row in rows.cast_column("image", datasets.Image()):
        np.asarray(row["image"])
        count += 1
    print(json.dumps({"count": count, "seconds": time.perf_counter() - start}))


def timed(command, endpoint):
    """Seconds of the process on an empty cache, and what it prints."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": cache,
                       "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        start = time.perf_counter()
        child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)
        out, err = child.communicate()
        seconds = time.perf_counter() - start
    if child.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{err}")
    return seconds, out


def main():
    program, rows, rounds = (sys.argv[1:] + ["1000", "5"][len(sys.argv) - 2 :])[:3]
    rows, rounds = int(rows), int(rounds)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        make = pathlib.Path(__file__).with_name("parquet.py")
        for k in range(2):
            shard = folder / f"{k}.parquet"
            subprocess.run([sys.executable, make, "--make", shard, str(rows // 2)], check=True)
            Hub.files[f"data/train-{k:05}-of-00002.parquet"] = shard.read_bytes()
        endpoint = serve()
        recipe = folder / "bench.toml"
        recipe.write_text(RECIPE.format(repo=REPO))
        # All objects once, whole: what is fetched is tokenised and thrown away with the folder.
        ours = lambda k: [program, "convert", recipe, "--out", folder / f"out-{k}", "--workers", "1",
                          "--quiet"]
        theirs = [sys.executable, __file__, "--python"]
        found = {"astropt": [], "datasets": []}
        for k in range(rounds):
            found["astropt"].append(timed(ours(k), endpoint)[0])
            answer = json.loads(timed(theirs, endpoint)[1])
            assert answer["count"] == rows // 2 * 2, answer
            found["datasets"].append(answer["seconds"])
    rates = {name: rows / statistics.median(seconds) for name, seconds in found.items()}
    for name, rate in rates.items():
        print(f"{name}: {rate:.0f} images/s")
    print(f"ratio: {rates['astropt'] / rates['datasets']:.2f}")


if __name__ == "__main__":
    python() if sys.argv[1] == "--python" else main()
