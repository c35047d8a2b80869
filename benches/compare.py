"""The jobs of compare.sh, run turn about; prints a Markdown table."""

import glob
import json
import os
import platform
import statistics
import subprocess
import sys
import time

OURS, PEER, STAMPS, WORK, ROUNDS, DEVICE = sys.argv[1:5] + [int(sys.argv[5]), sys.argv[6]]

# Job, arguments of this program, arguments of the Python script, what is compared.
AIM = ["--set", "model.tokeniser=aim"]


def model(job, scale, rows):
    return ["bench", job, "--scale", scale, "--micro-batch", str(rows), "--json", *AIM]


JOBS = [
    ("train 1M, 8 x 1024", model("train", "1M", 8), ["train", "1M", "8", "1024"]),
    ("the same, torch.compile", model("train", "1M", 8), ["train", "1M", "8", "1024", "--compile"]),
    ("train 21M, 2 x 1024", model("train", "21M", 2), ["train", "21M", "2", "1024"]),
    ("train 89M, 1 x 1024", model("train", "89M", 1), ["train", "89M", "1", "1024"]),
    ("embed 21M, 4 x 1024", model("embed", "21M", 4), ["embed", "21M", "4", "1024"]),
    ("JPEG 512 x 512 to tokens, one core", ["bench", "data", f"{WORK}/stamps", "--json"],
     ["data", f"{WORK}/stamps"]),
]


# Models alone: files are turned into tokens by the same code on any backend.
LIBTORCH_JOBS = [
    (name, [*ours, "--backend", "libtorch"], peer) for name, ours, peer in JOBS if peer[0] != "data"
]


def on_gpu(scale, rows, precision):
    ours = ["--backend", "cuda", "--steps", "20", "--set", f"train.precision={precision}"]
    peer = [scale, str(rows), "1024", "--compile"] + (["--bf16"] if precision == "bf16" else [])
    name = f"train {scale}, {rows} x 1024, {precision}, torch.compile"
    return name, model("train", scale, rows) + ours, peer


GPU_JOBS = [
    on_gpu(scale, rows, precision)
    for scale, rows in (("1M", 64), ("21M", 32), ("89M", 16))
    for precision in ("bf16", "f32")
] + [on_gpu("309M", 8, "bf16")]


def run(command):
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"compare.sh: {' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def rate(answer):
    return answer.get("tokens_per_second") or answer["images_per_second_per_core"]


def make_stamps():
    from PIL import Image

    os.makedirs(f"{WORK}/stamps")
    for k, path in enumerate(sorted(glob.glob(f"{STAMPS}/**/*.jp*g", recursive=True))[:64]):
        Image.open(path).convert("RGB").resize((512, 512)).save(f"{WORK}/stamps/{k}.jpg", quality=92)


def cpu():
    with open("/proc/cpuinfo") as lines:
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def main():
    jobs = {"cpu": JOBS, "libtorch": LIBTORCH_JOBS, "cuda": GPU_JOBS}[DEVICE]
    if DEVICE == "cuda":
        on = run([sys.executable, PEER, "1M", "1", "64", "--steps", "1"])["device"]
    else:
        on = cpu()
    if DEVICE == "cpu":
        make_stamps()
    print(f"{on}, {ROUNDS} rounds, medians\n")
    print("| job | this program | Python | ratio | peak memory, this / Python |")
    print("|---|---|---|---|---|")
    for name, ours, peer in jobs:
        pairs = [(run([OURS, *ours]), run([sys.executable, PEER, *peer])) for _ in range(ROUNDS)]
        median = lambda f: statistics.median(f(a, b) for a, b in pairs)
        memory = "peak_rss_bytes" in pairs[0][1]
        unit = "tokens/s" if "tokens_per_second" in pairs[0][0] else "images/s"
        # Over the GPU's peak: model FLOPs utilisation.
        flops = median(lambda a, b: a.get("flops_per_second", 0)) / 1e12
        share = median(lambda a, b: a.get("peak", {}).get("share", 0))
        print(
            f"| {name} | {median(lambda a, b: rate(a)):.0f} {unit}"
            + (f", {flops:.1f} TFLOP/s ({100 * share:.1f}% of {pairs[0][0]['peak']['of']}'s peak) " if DEVICE == "cuda" else " ")
            + f"| {median(lambda a, b: rate(b)):.0f} {unit} "
            f"| {median(lambda a, b: rate(a) / rate(b)):.2f} "
            + (f"| {median(lambda a, b: a['peak_rss_bytes'] / b['peak_rss_bytes']):.2f} |" if memory else "| - |"),
            flush=True,
        )
    times = []
    for _ in range(21):
        start = time.perf_counter()
        subprocess.run([OURS, "--help"], stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - start)
    print(f"| `astropt --help`, whole process | {1e3 * statistics.median(times):.1f} ms | - | - | - |")


main()
