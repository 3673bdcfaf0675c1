# SPDX-License-Identifier: Apache-2.0
"""Single faults in weights: bitward's torch engine and its peers beside a naive loop, on the same faults and images.

    pip install -e '.[peers]'; pip install --no-deps MRFI==2.1.0 seu-injection-framework==1.3.0
    python benchmarks/fault_injection.py --case small-fp32-uniform --faults 500 --data CIFAR10 --json small.json
    python benchmarks/fault_injection.py --table small.json ...

A case is MODEL-WEIGHTS-DRAW: a small CNN or ResNet-18 for 32x32 pictures, weights in fp32 or int8 (one scale a tensor),
faults uniform over all weight bits or uniform over layers first. The naive loop flips in place, runs all images,
compares every decision, restores. All run in one process, on one thread (--threads), in turns of --turn faults; a peer
that is not installed, or has no such weights, is left out and said so. Verdicts (the decision on each image) are
compared with the naive loop's, fault by fault. Seconds are the processor's on one thread, on more the clock's. With
--data the model is trained on those pictures for --steps steps first (kept beside the JSON), else it is random, and its
batch norm calibrated.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fault_injection_contenders import PEERS, Case, Contender, Exact, Naive, Screened, Verdicts
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from bitward.classic import find_classic
from bitward.datasets import load_dataset
from bitward.engine.pytorch import TorchEngine, as_float32, as_integers
from bitward.faults import Fault
from bitward.statistics import exact
from bitward.tools import atomic_write

STEPS = {"small": 800, "resnet18": 250}


def small() -> nn.Module:
    """Three convolutions with batch norm and pooling, and a dense layer: 33,712 weights."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 10))


def resnet18() -> nn.Module:
    """ResNet-18 in its usual form for CIFAR: 11.17 M weights."""
    return find_classic("resnet18").build(10, 3, 1.0)


MODELS: dict[str, Callable[[], nn.Module]] = {"small": small, "resnet18": resnet18}


def prepare(arguments: argparse.Namespace) -> Case:
    """The case of that name."""
    name, form, draw = arguments.case.split("-")
    torch.manual_seed(0)
    network = MODELS[name]()
    random = np.random.default_rng(arguments.seed)
    if arguments.data is None:
        images = torch.from_numpy(random.normal(size=(arguments.images, 3, 32, 32)).astype(np.float32))
        with torch.no_grad():
            for _ in range(5):
                network.train()(images)
    else:
        data = load_dataset("cifar10", arguments.data)
        pictures = torch.from_numpy(np.asarray(data.train_images, dtype=np.float32)) / 128 - 1
        weights = arguments.json.with_name(f"{name}-{arguments.steps or STEPS[name]}.pt")
        if weights.is_file():
            network.load_state_dict(torch.load(weights))
        else:
            train(network, pictures, torch.from_numpy(np.asarray(data.train_labels)), arguments.steps or STEPS[name])
            torch.save(network.state_dict(), weights)
        images = torch.from_numpy(np.asarray(data.test_images[: arguments.images], dtype=np.float32)) / 128 - 1
    only_weights = (
        as_integers(8) if form == "int8" else lambda *tensor: as_float32(*tensor) if tensor[1] == "weight" else None
    )
    engine = TorchEngine(network, only_weights, arguments.case)
    golden = engine.infer(images.numpy()).argmax(1)
    return Case(engine, images.numpy(), list(drawn(engine, draw, arguments.faults, random)), form, golden)


def train(network: nn.Module, pictures: Tensor, labels: Tensor, steps: int) -> None:
    """A short training: SGD with a one-cycle rate, batches of 64, on all threads that there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
    network.train()
    for step in range(steps):
        chosen = torch.randint(0, len(pictures), (64,))
        with torch.autocast("cpu", torch.bfloat16):
            scores = network(pictures[chosen])
        loss = F.cross_entropy(scores.float(), labels[chosen].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"training: step {step} of {steps}, loss {loss.item():.2f}", file=sys.stderr, flush=True)
    torch.set_num_threads(threads)


def drawn(engine: TorchEngine, draw: str, count: int, random: np.random.Generator) -> Any:
    """Distinct single faults, uniform over bits, or over layers and then over a layer's bits."""
    memories = engine.manifest.memories
    sizes = np.array([memory.parameters for memory in memories], dtype=float)
    shares = sizes / sizes.sum() if draw == "uniform" else np.full(len(sizes), 1 / len(sizes))
    seen: set[Fault] = set()
    while len(seen) < count:
        memory = memories[random.choice(len(memories), p=shares)]
        fault = Fault(memory.name, int(random.integers(memory.parameters)), int(random.integers(memory.width)))
        if fault not in seen:
            seen.add(fault)
            yield (fault,)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All contenders on the faults of the case, in turns."""
    torch.set_num_threads(arguments.threads)
    case = prepare(arguments)
    contenders: list[Contender] = [Naive(case), Exact(case), Screened(case)]
    for each in contenders[1:]:
        each.verdicts(case.trials[:20])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    left_out: dict[str, str] = {}
    for peer in PEERS if arguments.peers else ():
        try:
            contenders.append(peer(case))
        except ImportError as error:
            left_out[peer.name] = str(error)
    for each in contenders:
        each.verdicts(case.trials[:2])  # golden values, compiled kernels
    clock = time.process_time if arguments.threads == 1 else time.perf_counter  # what a busy machine adds is left out
    seconds = {each.name: 0.0 for each in contenders}
    counted = dict.fromkeys(seconds, 0)
    verdicts: dict[str, list[Verdicts]] = {each.name: [] for each in contenders}
    for start in range(0, len(case.trials), arguments.turn):
        part = case.trials[start : start + arguments.turn]
        for each in contenders:
            some = part[: arguments.peer_share * len(part) // 100 or 1] if isinstance(each, PEERS) else part
            began = clock()
            verdicts[each.name].append(each.verdicts(some))
            seconds[each.name] += clock() - began
            counted[each.name] += len(some)
        print(f"{arguments.case}: {start + len(part)} of {len(case.trials)}", file=sys.stderr, flush=True)
    more = drawn(case.engine, arguments.case.split("-")[2], arguments.screened_faults, np.random.default_rng(99))
    each_takes = {name: seconds[name] / counted[name] for name in seconds}
    return {
        "case": arguments.case, "faults": len(case.trials), "images": len(case.images), "threads": arguments.threads,
        "model": "random" if arguments.data is None else "trained", "weights": sum(
            memory.parameters for memory in case.engine.manifest.memories),
        "seconds_a_fault": each_takes, "counted": counted,
        "ratios_to_naive": {name: each_takes[Naive.name] / takes for name, takes in each_takes.items()},
        "left_out": left_out, **compared(case, verdicts), "peak_bytes": peak,
        "share": share(case, contenders, verdicts, list(more)),
    }  # fmt: skip


def share(
    case: Case, contenders: Sequence[Contender], verdicts: dict[str, list[Verdicts]], more: list[tuple[Fault, ...]]
) -> dict[str, Any]:
    """The share of faults that change a decision, with 95 % intervals: all of them, screened ones, `more`."""
    found = np.concatenate(verdicts[Naive.name])
    count = int((found != case.golden).any(axis=1).sum())
    whole = exact(count, len(found))
    (screened,) = (each for each in contenders if isinstance(each, Screened))
    shares = {
        "all": {"estimate": whole.estimate, "low": whole.low, "high": whole.high, "run": len(found)},
        "screened": screened.estimate(np.concatenate(verdicts[Screened.name])),
    }
    if more:
        began = time.perf_counter()
        shares["more"] = screened.estimate(np.concatenate([screened.verdicts(part) for part in in_turns(more, 1000)]))
        shares["more"] |= {"faults": len(more), "seconds_a_fault": (time.perf_counter() - began) / len(more)}
    return shares


def in_turns(trials: list[tuple[Fault, ...]], count: int) -> Iterator[list[tuple[Fault, ...]]]:
    """So many trials at a time."""
    for start in range(0, len(trials), count):
        yield trials[start : start + count]
        print(f"screened alone: {min(start + count, len(trials))} of {len(trials)}", file=sys.stderr, flush=True)


def compared(case: Case, verdicts: dict[str, list[Verdicts]]) -> dict[str, Any]:
    """Faults whose verdicts differ from the naive loop's, and the faults that change a decision."""
    differing, changing = {}, {}
    for name, parts in verdicts.items():
        pairs = [(got, want[: len(got)]) for got, want in zip(parts, verdicts[Naive.name], strict=True)]
        wrong = changed = 0
        for got, want in pairs:
            critical = (want != case.golden).any(axis=1)
            found = got == 1 if got.ndim == 1 else (got != case.golden).any(axis=1)
            known = got >= 0 if got.ndim == 1 else np.ones(len(got), bool)
            wrong += int((found != critical)[known].sum() if got.ndim == 1 else (got != want).any(axis=1).sum())
            changed += int(found[known].sum())
        differing[name], changing[name] = wrong, changed
    return {"faults_with_other_verdicts": differing, "faults_that_change_a_decision": changing}


def table(results: Sequence[dict[str, Any]]) -> None:
    """Speed as ratios to the naive loop, and verdicts that differ from it."""
    names = list(dict.fromkeys(name for result in results for name in result["seconds_a_fault"]))
    shares = "change a decision, 95 % interval: all / screened / more faults screened"
    print("| case | faults, images | naive, ms a fault | " + " | ".join(names[1:]) + f" | {shares} |")
    print("|---" * (len(names) + 3) + "|")
    for result in results:
        naive = result["seconds_a_fault"][names[0]]
        cells = []
        for name in names[1:]:
            if name not in result["seconds_a_fault"]:
                cells.append(result["left_out"].get(name, "not run"))
                continue
            ratio = naive / result["seconds_a_fault"][name]
            cells.append(f"{ratio:.3g}x, {result['faults_with_other_verdicts'][name]} differ")
        for one in result["share"].values():
            count = f" of {one['faults']}" if "faults" in one else ""
            cells.append(f"{one['estimate']:.2%} [{one['low']:.2%}, {one['high']:.2%}], {one['run']}{count} run")
        head = f"`{result['case']}` ({result['model']}) | {result['faults']}, {result['images']} | {1000 * naive:.1f}"
        ratios, found = cells[: -len(result["share"])], cells[-len(result["share"]) :]
        print(f"| {head} | {' | '.join(ratios)} | {' / '.join(found)} |")


def main() -> int:
    """Runs a case, or prints the table of cases that ran."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", help="small|resnet18 - fp32|int8 - uniform|layers")
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turn", type=int, default=250, help="faults a turn")
    parser.add_argument("--peer-share", type=int, default=100, help="per cent of each turn's faults that peers run")
    parser.add_argument("--screened-faults", type=int, default=0, help="more faults, for the screen alone")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--data", type=Path, help="CIFAR-10, as for bitward train")
    parser.add_argument("--steps", type=int, help="of training")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("runs/fault_injection.json"))
    parser.add_argument("--table", type=Path, nargs="*", help="print the table of these results")
    arguments = parser.parse_args()
    if arguments.table:
        table([json.loads(path.read_text()) for path in arguments.table])
        return 0
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    result = run(arguments)
    atomic_write(arguments.json, json.dumps(result, indent=1) + "\n")
    table([result])
    return 0


if __name__ == "__main__":
    sys.exit(main())
