# SPDX-License-Identifier: Apache-2.0
"""What sensitivity flows found, as Markdown: means, the order of the activations, the papers' claims, explanations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from bitward.explore.text import points, with_interval
from bitward.sensitivity.rates import combined
from bitward.statistics import Interval, student

Summary = Mapping[str, Any]
Seed = Mapping[str, Any]
Rate = Callable[[Seed], float]
ACTIVATIONS = {"relu": "ReLU", "sigmoid": "Sigmoid", "hardsigmoid": "Hard Sigmoid"}
PAIRS = (("relu", "sigmoid"), ("relu", "hardsigmoid"), ("sigmoid", "hardsigmoid"))
LEFT_OUT = ("mean", "variance")  # kinds that the papers do not try
BIASES = ("conv bias", "transposed conv bias")
KERNELS = ("conv kernel", "transposed conv kernel")


def activation_of(summary: Summary) -> str:
    """The activation function of the network's name: hsi_unet3_relu has relu."""
    return str(summary["network"]).rpartition("_")[2]


def label(summary: Summary) -> str:
    """The activation and how parameters are stored, in few words: of integers it goes without saying that they fold."""
    return f"{ACTIVATIONS[activation_of(summary)]}, {_stored(summary)}"


def _stored(summary: Summary) -> str:
    stored = str(summary["stored_as"]).replace("int8 weights and int32 biases, batch norm folded", "int8")
    return stored.replace("batch norm folded", "folded")


def by_storage(summaries: Sequence[Summary]) -> dict[str, dict[str, Summary]]:
    """The summaries by how parameters are stored, then by activation."""
    found: dict[str, dict[str, Summary]] = {}
    for summary in summaries:
        found.setdefault(summary["stored_as"], {})[activation_of(summary)] = summary
    return found


def table(columns: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table.

    >>> print(table(["|x|", "n"], [["a", "1"]]), end="")
    | \\|x\\| | n |
    |---|---|
    | a | 1 |
    """
    lines = ["|".join(["", *(f" {cell.replace('|', chr(92) + '|')} " for cell in row), ""]) for row in (columns, *rows)]
    return "\n".join([lines[0], "|---" * len(columns) + "|", *lines[1:]]) + "\n"


def means(summaries: Sequence[Summary]) -> str:
    """A line a network and seed: IoU, mean error rate, deviation over sets, one upset."""
    rows = [
        (
            label(summary),
            str(seed["seed"]),
            f"{points(seed['stored']['global_iou'])} / {points(seed['stored']['weighted_iou'])}",
            with_interval(over_sets(seed)),
            with_interval(Interval(**seed["mean"])),
            points(seed["deviation"]),
            with_interval(Interval(**seed["per_upset"])),
            f"{seed['faults']:,}",
        )
        for summary in summaries
        for seed in summary["seeds"]
    ]
    head = ("network", "seed", "global / weighted IoU, %", "mean of the papers' sets, % of pixels [95 %]",
            "of all sets", "deviation of all sets",
            "one random upset of the bits tried", "faults")  # fmt: skip
    return table(head, rows)


def between(left: Summary, right: Summary, rate: Rate) -> list[float]:
    """Left less right, for each seed that both have."""
    seeds = {seed["seed"]: seed for seed in right["seeds"]}
    return [rate(seed) - rate(seeds[seed["seed"]]) for seed in left["seeds"] if seed["seed"] in seeds]


def judged(values: Sequence[float]) -> tuple[str, str]:
    """The mean of what seeds say, with Student's interval between them, and the verdict on it."""
    if len(values) < 2:
        return f"{points(values[0])} (one seed)" if values else "no seed in common", verdict(None)
    found = student(values)
    return f"{with_interval(found)} ({found.trials} seeds)", verdict(found)


def verdict(found: Interval | None) -> str:
    """Whether a difference that is claimed to be above 0 is: only where its interval leaves 0 out.

    >>> [verdict(Interval(low, high, 0.1, 3)) for low, high in ((0.1, 0.3), (-0.1, 0.3), (-0.3, -0.1))]
    ['holds', 'not shown', 'the contrary holds']
    """
    if found is None:
        return "not judged"
    return "holds" if found.low > 0 else "the contrary holds" if found.high < 0 else "not shown"


def over_sets(seed: Seed) -> Interval:
    """The mean error rate over the parameter sets that the papers try: all but means and variances of batch norm."""
    return combined([(1.0, Interval(**row["error"])) for row in seed["sets"] if row["kind"] not in LEFT_OUT])


def mean_of(seed: Seed) -> float:
    """The mean error rate of a seed's network, as the papers have it."""
    return over_sets(seed).estimate


def bit_rates(seed: Seed) -> dict[int, float]:
    """The mean error rate of each bit over the papers' parameter sets, from the highest bit on."""
    found: dict[int, list[float]] = {}
    for cell in seed["cells"]:
        if cell["kind"] not in LEFT_OUT:
            found.setdefault(cell["bit"], []).append(cell["error"])
    return {bit: fmean(found[bit]) for bit in sorted(found, reverse=True)}


def order(summaries: Sequence[Summary]) -> str:
    """By storage, how much more the first activation's network suffers than the second's, between seeds."""
    rows = []
    for group in by_storage(summaries).values():
        for first, second in PAIRS:
            if first in group and second in group:
                text = judged(between(group[first], group[second], mean_of))
                rows.append((_stored(group[first]), f"{ACTIVATIONS[first]} less {ACTIVATIONS[second]}", *text))
    return table(("stored as", "difference of mean error rates", "points [95 % between seeds]", "first is less robust"),
                 rows)  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """A sentence of the papers, and the figure of a network that is above 0 where it is true."""

    text: str
    is_of: str  # the beginning of how parameters are stored
    figure: Callable[[Seed], float | None]


def claims(summaries: Sequence[Summary]) -> str:
    """The papers' claims about one network, over its seeds; about two storages, over the seeds that both have."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for claim in CLAIMS:
        for summary in summaries:
            values = [value for seed in summary["seeds"] if (value := claim.figure(seed)) is not None]
            if summary["stored_as"].startswith(claim.is_of) and values:
                row = found.setdefault((claim.text, _stored(summary)), {})
                row[activation_of(summary)] = " ".join(judged(values))
    for text, name, values in _storages(summaries):
        found.setdefault((text, "both"), {})[name] = " ".join(judged(values))
    rows = [(*key, *(row.get(name, "") for name in ACTIVATIONS)) for key, row in found.items()]
    return table(("claim: above 0 where it is true", "stored as", *ACTIVATIONS.values()), rows)


def _storages(summaries: Sequence[Summary]) -> Iterator[tuple[str, str, list[float]]]:
    """(claim, activation, differences of seeds) about networks that are stored in two ways."""
    groups, whole = by_storage(summaries), "int8 weights and int32 biases, batch norm folded"
    folded = "float32, batch norm folded"
    pairs: tuple[tuple[str, str, str, Rate], ...] = (
        ("folding batch norm lowers the mean error rate", "float32", folded, mean_of),
        ("one upset of the bits tried does less in int8 than in folded float32", folded, whole, one_upset),
        ("pruning raises the mean error rate", "float32, pruned", "float32", mean_of),
        ("pruning raises the mean error rate of int8", f"{whole}, pruned", whole, mean_of),
        ("one upset of the bits tried does more in pruned int8", f"{whole}, pruned", whole, one_upset),
    )
    for text, first, second, rate in pairs:
        for name in groups.get(first, {}):
            if name in groups.get(second, {}):
                yield text, name, between(groups[first][name], groups[second][name], rate)


def one_upset(seed: Seed) -> float:
    """The mean error rate of one upset anywhere in the bits tried."""
    return float(seed["per_upset"]["estimate"])


def of_kinds(seed: Seed, kinds: Sequence[str], layers: Sequence[str] = (), dangerous: bool = False) -> float | None:
    """The mean error rate of the sets of these kinds, in layers that begin so (all for none); None where there is none.

    With `dangerous` only that of the most dangerous bits counts.
    """
    found = [
        row["dangerous" if dangerous else "error"]["estimate"]
        for row in seed["sets"]
        if row["kind"] in kinds and (not layers or row["name"].startswith(tuple(layers)))
        and (not dangerous or row["dangerous"] is not None)
    ]  # fmt: skip
    return fmean(found) if found else None


def _less(left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else left - right


def _side(seed: Seed, first: str, second: str, kind: str, dangerous: bool) -> float | None:
    """What sets of a kind in layers that begin with `first` suffer more than those that begin with `second`."""
    return _less(of_kinds(seed, [kind], [first], dangerous), of_kinds(seed, [kind], [second], dangerous))


def _msb(seed: Seed) -> float | None:
    rates = bit_rates(seed)
    return rates[30] - max(rate for bit, rate in rates.items() if bit != 30)


def _gamma(seed: Seed) -> float | None:
    others = {row["kind"] for row in seed["sets"]} - {"gamma", *LEFT_OUT}
    rates = [rate for kind in others if (rate := of_kinds(seed, [kind])) is not None]
    return _less(of_kinds(seed, ["gamma"]), max(rates, default=0.0))


def _rest(seed: Seed) -> float | None:
    inner = [row["error"]["estimate"] for row in seed["sets"] if row["name"].startswith("base.")]
    outer = [row["error"]["estimate"] for row in seed["sets"] if not row["name"].startswith("base.")]
    return fmean(outer) - fmean(inner) if inner and outer else None


CLAIMS = (
    Claim("bit 30 does most harm of all bits", "float32", _msb),
    Claim("gammas are the most sensitive kind of parameters", "float32", _gamma),
    Claim("conv biases of the decoder are more sensitive than the encoder's (bit 30)", "float32",
          lambda seed: _side(seed, "dec", "enc", "conv bias", True)),
    Claim("conv kernels of the encoder are more sensitive than the decoder's", "float32",
          lambda seed: _side(seed, "enc", "dec", "conv kernel", False)),
    Claim("the base is less sensitive than the rest", "", _rest),
    Claim("biases are more sensitive than kernels", "int8",
          lambda seed: _less(of_kinds(seed, BIASES), of_kinds(seed, KERNELS))),
    Claim("conv biases of the encoder are more sensitive than the decoder's (bits 17 to 30)", "int8",
          lambda seed: _side(seed, "enc", "dec", "conv bias", True)),
)  # fmt: skip


def kinds(summaries: Sequence[Summary]) -> str:
    """The mean error rate of each kind of parameters, mean of seeds."""
    names = list(dict.fromkeys(row["kind"] for summary in summaries for row in summary["seeds"][0]["sets"]))
    rows = []
    for summary in summaries:
        found = [[of_kinds(seed, [name]) for seed in summary["seeds"]] for name in names]
        rows.append((
            label(summary),
            *("" if None in each else points(fmean(value for value in each if value is not None)) for each in found),
        ))  # fmt: skip
    return table(("network (mean of its seeds), % of pixels", *names), rows)


def bits(summaries: Sequence[Summary]) -> str:
    """The mean error rate of each bit over the papers' parameter sets, mean of seeds; summaries with the same bits."""
    names = list(bit_rates(summaries[0]["seeds"][0])) if summaries else []
    rows = []
    for summary in summaries:
        rates = [bit_rates(seed) for seed in summary["seeds"]]
        rows.append((label(summary), *(points(fmean(each[bit] for each in rates)) for bit in names)))
    return table(("bit (mean of seeds), % of pixels", *map(str, names)), rows)


def correlations(summaries: Sequence[Summary]) -> str:
    """Shares of parameter sets against the error rate of their dangerous bits, by seed; empty where not defined."""
    seeds = [(f"{label(summary)}, seed {seed['seed']}", seed) for summary in summaries for seed in summary["seeds"]]
    shares = list(dict.fromkeys(row["what"] for _, seed in seeds for row in seed["correlations"] if row["r"]))
    rows = []
    for name, seed in seeds:
        known = {row["what"]: row["r"] for row in seed["correlations"] if row["r"]}
        rows.append((name, *(_coefficient(known[share]) if share in known else "" for share in shares)))
    return table(("correlation with the error rate of the dangerous bits [95 %]", *shares), rows)


def _coefficient(found: Mapping[str, Any]) -> str:
    return f"{found['estimate']:.2f} [{found['low']:.2f}, {found['high']:.2f}] of {found['trials']}"


def equation_2(summaries: Sequence[Summary]) -> str:
    """Prediction and injection of the output layer's biases."""
    rows = []
    for summary in summaries:
        for seed in summary["seeds"]:
            found = seed["output_biases"]
            chosen = [row for row in found["rows"] if row["bit"] in found["bits"]]
            equal = sum(abs(row["predicted"] - row["measured"]) < 1e-12 for row in chosen)
            rows.append((
                f"{label(summary)}, seed {seed['seed']}",
                f"{found['bits'][0]} to {found['bits'][-1]}" if len(found["bits"]) > 1 else str(found["bits"][0]),
                points(found["predicted"], 3), points(found["measured"], 3), f"{equal} of {len(chosen)}",
            ))  # fmt: skip
    return table(("network", "bits", "equation 2, %", "every fault injected, %", "faults with equal rates"), rows)


def needed(summary: Summary) -> str:
    """Bits that positive and negative biases need, layer by layer, of the first seed: the papers' Table 11."""
    rows = [
        (row["name"], str(row["positive_bits"] or "none"), str(row["negative_bits"] or "none"), points(row["positive"]),
         points(row["dangerous"]["estimate"]))
        for row in summary["seeds"][0]["sets"]
        if row["kind"] in BIASES
    ]  # fmt: skip
    head = ("biases", "bits of positive ones", "of negative ones", "positive, %", "error rate of bits 17 to 30, %")
    return table(head, rows)


def several(summaries: Sequence[Summary]) -> str:
    """Mean and deviation of many random flips at once, by number; summaries with the same numbers."""
    found = [(label(summary), seed) for summary in summaries for seed in summary["seeds"] if seed["several"]]
    flips = [row["flips"] for row in found[0][1]["several"]] if found else []
    rows = [
        (f"{name}, seed {seed['seed']}", str(len(seed["several"][0]["errors"])),
         *(f"{points(row['error']['estimate'], 1)} ± {points(row['deviation'], 1)}" for row in seed["several"]))
        for name, seed in found
    ]  # fmt: skip
    return table(("% of pixels, mean and deviation", "repetitions", *(f"{count:,}" for count in flips)), rows)
