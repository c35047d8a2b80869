"""Weak scaling on this machine, and on paper.

    python3 benches/scaling.py target/release/astropt [ROUNDS]

One process of one thread and two such processes, each with as many rows, turn about; medians of
their step times and of the ratios within each round. The program must be built with the feature
`mpi`. Then, computed and not measured: the efficiency on N nodes of one process each, where a step
takes as long as it does here and gradients go over a network of stated bandwidth and delay.
"""

import json
import os
import statistics
import subprocess
import sys

# Scale, rows of 1024 tokens a process, timed steps.
JOBS = [("1M", 4, 6), ("21M", 1, 3)]
# Name, bytes a second and direction, seconds a message.
NETWORKS = [("10 Gb/s Ethernet", 1.25e9, 30e-6), ("100 Gb/s InfiniBand", 12.5e9, 3e-6)]
# Bytes a second that one core adds up.
MEMORY = 10e9
NODES = [1, 2, 4, 8, 16, 32, 64]


def bench(program, processes, scale, rows, steps):
    command = [program, "bench", "train", "--scale", scale, "--micro-batch", str(rows)]
    command += ["--tokens", "1024", "--steps", str(steps), "--json"]
    if processes > 1:
        launcher = ["mpirun", "--bind-to", "none", "-n", str(processes)]
        if os.geteuid() == 0:
            launcher.insert(1, "--allow-run-as-root")
        command = launcher + command
    environment = dict(os.environ, RAYON_NUM_THREADS="1")
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(output.stdout)


def on_paper(seconds, parameters, nodes, bandwidth, delay):
    """Share of a step that is computing. Of n processes each sends (n-1)/n of the gradients away
    to be added up and as much of the sums, in n-1 messages each time, and adds up as many numbers as
    the model has; nothing overlaps."""
    sent = 2 * (nodes - 1) / nodes * 4 * parameters / bandwidth
    added = 4 * parameters / MEMORY if nodes > 1 else 0.0
    return seconds / (seconds + sent + 2 * (nodes - 1) * delay + added)


def main():
    program = os.path.abspath(sys.argv[1])
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    for scale, rows, steps in JOBS:
        times = {1: [], 2: []}
        for turn in range(rounds):
            for processes in ([1, 2], [2, 1])[turn % 2]:
                result = bench(program, processes, scale, rows, steps)
                times[processes].append(statistics.median(result["step_seconds"]))
        parameters = result["parameters"]
        ratios = [one / two for one, two in zip(times[1], times[2])]
        one, two = (statistics.median(times[k]) for k in (1, 2))
        print(f"{scale}, {parameters} parameters, {rows} x 1024 tokens a process")
        print(f"  1 process  {one:.3f} s a step")
        print(f"  2 processes {two:.3f} s a step")
        print(f"  efficiency {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
        for name, bandwidth, delay in NETWORKS:
            shares = [on_paper(one, parameters, n, bandwidth, delay) for n in NODES]
            row = "  ".join(f"{n}: {share:.3f}" for n, share in zip(NODES, shares))
            print(f"  computed, {name}: {row}")


if __name__ == "__main__":
    main()
