"""Times training steps of the Python AstroPT on a GPU, as compare.sh does for this program.

usage: python_cuda.py SCALE MICRO_BATCH TOKENS [--bf16] [--compile] [--steps N]

One JSON object on standard output. A step is forward, backward, clipping by global norm, AdamW,
and reading the loss, on tokens that lie on the GPU already.
"""

import argparse
import json
import statistics
import time

import torch
from astropt.model import GPT, GPTConfig, ModalityConfig, ModalityRegistry

# Layers, heads and width of the recipe's scales.
SCALES = {"1M": (4, 8, 128), "21M": (6, 8, 512), "89M": (12, 12, 768), "309M": (24, 16, 1024)}


def build(scale):
    layers, heads, width = SCALES[scale]
    images = ModalityConfig(
        name="images", input_size=768, patch_size=16, loss_weight=1.0, embed_pos=True, pos_input_size=1
    )
    config = GPTConfig(
        n_layer=layers, n_head=heads, n_embd=width, n_chan=3, block_size=1024, dropout=0.0,
        modalities=[images], attn_type="causal",
    )
    return GPT(config, ModalityRegistry([images]), master_process=False).cuda()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("scale", choices=SCALES)
    parser.add_argument("rows", type=int)
    parser.add_argument("tokens", type=int)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    torch.manual_seed(0)
    model = build(args.scale)
    optimiser = model.configure_optimizers(0.1, 6e-4, (0.9, 0.95), "cuda")
    inputs = {
        "images": torch.randn(args.rows, args.tokens, 768, device="cuda"),
        "images_positions": torch.arange(args.tokens, device="cuda").repeat(args.rows, 1),
    }
    network = torch.compile(model) if args.compile else model
    seconds = []
    for step in range(args.steps + 5):  # the first ones compile and warm up
        start = time.perf_counter()
        with torch.autocast("cuda", torch.bfloat16, enabled=args.bf16):
            _, loss = network(inputs, targets={"images": inputs["images"]})
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        loss.item()
        torch.cuda.synchronize()
        if step >= 5:
            seconds.append(time.perf_counter() - start)
    rate = args.rows * args.tokens / statistics.median(seconds)
    print(json.dumps({"device": torch.cuda.get_device_name(), "tokens_per_second": rate}))


main()
