"""Checks `astropt export` with the Python AstroPT.

    python tests/python/check_export.py --astropt PATH_OF_PROGRAM --golden FOLDER

Every recorded checkpoint is imported and exported. What can be written as version 2 is
loaded with that program's own `load_astropt` and must give the recorded outputs within
1e-5; what is written in the layout it came from must hold the same tensors, bit by bit,
the same optimiser, and the same configuration. Needs torch, safetensors and astropt 2.x.
"""

import argparse
import contextlib
import io
import json
import pathlib
import subprocess
import sys
import tempfile

TOLERANCE = 1e-5
# Recorded case, and the layouts it is written in.
CASES = {
    "v1_paper": ["astropt-1"],
    "v2_images": ["astropt-2", "astropt-3"],
    "v2_images_spectra": ["astropt-2", "astropt-3"],
    "v3_images_aim": ["astropt-3", "astropt-2"],
    "v3_images_affine": ["astropt-3", "astropt-2"],
    "v3_three_modalities": ["astropt-3", "astropt-2"],
    "v3_images_mae": ["astropt-3"],
    "v3_discrete": ["astropt-3"],
}


def plain(value):
    """A configuration object as a dictionary, so that versions can be compared."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return plain(vars(value)) if hasattr(value, "__dict__") else value


def difference(path, ours, theirs):
    """The first place at which two nested values differ; tensors must be equal."""
    import torch

    if isinstance(theirs, torch.Tensor):
        same = isinstance(ours, torch.Tensor) and ours.dtype == theirs.dtype
        return None if same and torch.equal(ours, theirs) else path
    if isinstance(theirs, dict):
        if not isinstance(ours, dict) or set(ours) != set(theirs):
            return f"{path}: {sorted(map(str, ours))} instead of {sorted(map(str, theirs))}"
        places = (difference(f"{path}.{key}", ours[key], theirs[key]) for key in theirs)
        return next((place for place in places if place), None)
    if isinstance(theirs, list):
        if len(ours) != len(theirs):
            return f"{path}: another length"
        places = (difference(f"{path}[{k}]", a, b) for k, (a, b) in enumerate(zip(ours, theirs)))
        return next((place for place in places if place), None)
    close = isinstance(theirs, float) and abs(ours - theirs) <= 1e-7 * max(1.0, abs(theirs))
    return None if close or ours == theirs else f"{path}: {ours!r} instead of {theirs!r}"


def check_file(file, recorded):
    """A file in the layout it came from against the original."""
    import torch

    ours = torch.load(file, weights_only=False, map_location="cpu")
    theirs = torch.load(recorded, weights_only=False, map_location="cpu")
    # The learning rate is that of the next step, which the training script sets itself.
    for group in ours["optimizer"]["param_groups"] + theirs["optimizer"]["param_groups"]:
        del group["lr"]
    order = [list(x["model"]) for x in (ours, theirs)]
    if order[0] != order[1]:
        return "the parameters are in another order, by which PyTorch numbers them"
    return difference("checkpoint", plain(dict(ours)), plain(dict(theirs)))


def load(file):
    """The exported file as the Python program loads it."""
    from astropt.model_utils import load_astropt

    with contextlib.redirect_stdout(io.StringIO()):
        model = load_astropt(repo_id=None, path=f"{file.parent}/", weights_filename=file.name)
    return model.eval()


def check_own(program, folder):
    """A model that the program trained itself: its recorded self-check, in Python."""
    import torch
    from safetensors.torch import load_file

    own, file = folder / "own", folder / "own.pt"
    training = "train={steps=3,batch=8,micro_batch=8,warmup_steps=1,decay_steps=3}"
    sets = ["source.objects=60", "model.tokeniser=aim", training]
    sets = [word for value in sets for word in ("--set", value)]
    run(program, "pretrain", "galaxy-grz", "--demo", "--quiet", "--out", own, *sets)
    run(program, "export", own, "--to", "astropt-2", "--out", file)
    recorded = load_file(own / "checkpoints" / "step-000003" / "selfcheck.safetensors")
    tokens = torch.stack([recorded["0.images"], recorded["1.images"]])
    positions = torch.stack([recorded["0.images_positions"], recorded["1.images_positions"]])
    inputs = {"images": tokens[:, :-1], "images_positions": positions[:, :-1]}
    with torch.no_grad():
        outputs, _ = load(file)(inputs, targets={"images": tokens[:, 1:]})
    theirs = recorded["outputs.images"]
    worst = float((outputs["images"].flatten()[: len(theirs)] - theirs).abs().max())
    print(f"a model trained here: version 2 answers within {worst:.1e}")
    return None if worst <= TOLERANCE else f"answers differ by {worst:.1e}"


def check_answers(file, case):
    """The answers of the Python program, version 2, with the exported file."""
    import torch
    from safetensors.torch import load_file

    model = load(file)
    recorded = load_file(case / "case.safetensors")
    order = json.loads((case / "case.json").read_text())["order"]
    cut = slice(None, -1) if len(order) == 1 else slice(None)
    inputs = {}
    for name in order:
        inputs[name] = recorded[f"data.{name}"][0][:, cut]
        inputs[f"{name}_positions"] = recorded[f"data.{name}_positions"][0][:, cut]
    # With targets the program decodes every token, as it did when the answers were recorded.
    first = order[0]
    targets = {name: recorded[f"data.{name}"][0] for name in order}
    targets[first] = targets[first][:, 1:]
    with torch.no_grad():
        outputs, loss = model(inputs, targets=targets)
    worst = abs(float(loss) - float(recorded["loss"][0]))
    for name in order:
        theirs = recorded[f"outputs.{name}"]
        ours = outputs[name]
        if ours.shape != theirs.shape:
            return f"{name}: outputs of shape {tuple(ours.shape)}, {tuple(theirs.shape)} recorded"
        worst = max(worst, float((ours - theirs).abs().max()))
    print(f"    version 2 answers within {worst:.1e}")
    return None if worst <= TOLERANCE else f"answers differ by {worst:.1e}"


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr}")


def report(problems):
    """Prints what is wrong; answers how many things are."""
    problems = [problem for problem in problems if problem]
    for problem in problems:
        print(f"    WRONG: {problem}")
    return len(problems)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--astropt", required=True, help="the program")
    parser.add_argument("--golden", required=True, type=pathlib.Path, help="recorded cases")
    arguments = parser.parse_args()
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name, layouts in CASES.items():
            case = arguments.golden / name
            imported = folder / name
            run(arguments.astropt, "import", case / "ckpt.pt", "--out", imported)
            for layout in layouts:
                file = folder / f"{name}.{layout}.pt"
                run(arguments.astropt, "export", imported, "--to", layout, "--out", file)
                print(f"{name} as {layout}")
                problems = []
                if layout == layouts[0]:
                    problems.append(check_file(file, case / "ckpt.pt"))
                if layout == "astropt-2":
                    problems.append(check_answers(file, case))
                failures += report(problems)
        failures += report([check_own(arguments.astropt, folder)])
    print("all agree" if failures == 0 else f"{failures} disagree")
    sys.exit(min(failures, 1))


if __name__ == "__main__":
    main()
