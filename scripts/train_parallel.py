"""Train a network that comes with the course on any number of processes, GPUs and machines.

    torchrun --standalone --nproc-per-node 2 scripts/train_parallel.py mnist

The name is mnist, bits or control; options after it are those of scripts/train_mnist.py and so
on. `--batch` is the batch of all processes together. One process for each GPU, or for each core
where there is none. On several machines, which must share the folder of `--state`, the same
command runs on each, with torchrun's --nnodes and --rdzv-endpoint for --standalone. A run that
was stopped goes on after its last whole epoch, with any number of processes; with
`--max-restarts 3` torchrun itself starts it again when a process dies.
"""

import importlib
import sys

from diffusion_core import processes

NETWORKS = ("mnist", "bits", "control")


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in NETWORKS:
        sys.exit(f"The first argument must be {', '.join(NETWORKS)}, got {sys.argv[1:2]}.")
    script = importlib.import_module(f"train_{sys.argv.pop(1)}")
    with processes.joined():
        script.main()


if __name__ == "__main__":
    main()
