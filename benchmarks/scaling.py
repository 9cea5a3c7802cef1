"""The tables and the picture of the suite "parallel": two workers as measured, and 8 to 1,024
workers on paper (costs.py)."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

from benchmarks.costs import NETWORKS, Network, Traffic, break_even, fitted, strong, weak
from benchmarks.parallel import ALL_REDUCE, CARRIERS, HALF, IN_ANY_ORDER, ONE, TWO
from benchmarks.report import duration, megabytes_of
from benchmarks.tables import footer, markdown

Record = dict[str, Any]

MANY = (8, 64, 1024)
CURVE = tuple(2**k for k in range(11))  # workers, along the picture's axis


def parallel_table(record: Record) -> str:
    """Markdown: two workers, the exchange, many workers on paper, and where it was measured."""
    parts = measured(record), exchanges(record), on_paper(record)
    return "\n".join(line for part in parts for line in part) + "\n" + "\n".join(footer(record))


def lines(record: Record) -> list[str]:
    """What the console shows after the rows."""
    return ["", *measured(record), *exchanges(record), *on_paper(record)]


# ── Two workers, as measured ─────────────────────────────────────────────────────────────────────


def measured(record: Record) -> list[str]:
    """A line per model: milliseconds and efficiencies by carrier, and what a step sends."""
    head = "training step | 1 worker"
    for carrier in CARRIERS:
        head += f" | {TWO[carrier]}: strong, weak scaling"
    head += " | gradients | statistics | exchanges"
    table = [model_cells(row, record["sent"][row["group"]]) for row in steps(record)]
    return [*markdown(head, table), ""]


def model_cells(row: Record, sent: Record) -> list[str]:
    by_name = {c["name"]: c for c in row["contenders"] if "median" in c}
    one, half = by_name[ONE]["median"], by_name[HALF]["median"]
    cells = [f"{row['group']}, {row['name'].rpartition(', ')[2]}", duration(one)]
    for carrier in CARRIERS:
        two = by_name.get(TWO[carrier], {}).get("median")
        text = f"{duration(two)}: {one / two / 2:.0%}, {half / two:.0%}" if two else "-"
        cells.append(text)
    amounts = [megabytes_of(sent["gradients"]), f"{sent['statistics'] / 1e3:.3g} kB"]
    return [*cells, *amounts, str(sent["exchanges"])]


def exchanges(record: Record) -> list[str]:
    """A line per carrier: the time of an all-reduce by size, and the latency and bandwidth."""
    table, sizes = [], []
    for name in (*TWO.values(), IN_ANY_ORDER):
        sizes, seconds = exchange_times(record, name) or (sizes, [])
        if seconds:
            network = fitted(name, sizes, seconds)
            cells = [duration(t) for t in seconds]
            bandwidth = f"{network.bandwidth / 1e9:.2g} GB/s"
            table.append([name, *cells, duration(network.latency), bandwidth])
    head = " | ".join(["all-reduce of", *(amount(size) for size in sizes)])
    return [*markdown(f"{head} | latency α | bandwidth β", table), ""] if table else []


def exchange_times(record: Record, name: str) -> tuple[list[float], list[float]] | None:
    """(bytes, seconds) of a contender's exchanges, if at least two sizes were measured."""
    found = []
    for row in record["rows"]:
        if row["group"] == ALL_REDUCE and "refused" not in row:
            times = [c["median"] for c in row["contenders"] if c["name"] == name and "median" in c]
            found += [(row["point"][1], t) for t in times]
    sizes, seconds = zip(*sorted(found), strict=True) if found else ((), ())
    return (list(sizes), list(seconds)) if len(sizes) > 1 else None


# ── Many workers, on paper ───────────────────────────────────────────────────────────────────────


def on_paper(record: Record) -> list[str]:
    """A line per model: the examples per worker below which a step communicates for longer than it
    computes."""
    networks = [(network, order) for network in NETWORKS for order in (True, False)]
    here = exchange_times(record, TWO["mpi"])
    if here:
        networks.append((fitted("as measured here", *here), True))
    head = "examples per worker, for " + ", ".join(f"{n:,}" for n in MANY) + " workers"
    for network, in_rank_order in networks:
        head += f" | {network.name}, {'rank' if in_rank_order else 'any'} order"
    table = []
    for row in steps(record):
        traffic, per_example = costs(record, row)
        cells = [
            ", ".join(
                examples(break_even(n, per_example, traffic, network, in_rank_order)) for n in MANY
            )
            for network, in_rank_order in networks
        ]
        table.append([row["group"], *cells])
    return [*markdown(head, table), ""]


def costs(record: Record, row: Record) -> tuple[Traffic, float]:
    """What a step of the row's model sends, and the seconds that one worker computes for one
    example."""
    sent = record["sent"][row["group"]]
    traffic = Traffic(sent["gradients"] + sent["statistics"], sent["exchanges"])
    (one,) = [c["median"] for c in row["contenders"] if c["name"] == ONE]
    return traffic, one / batch_of(row)


def batch_of(row: Record) -> int:
    return int(row["name"].rpartition(" ")[2])


def steps(record: Record) -> list[Record]:
    """The rows of training steps."""
    return [r for r in record["rows"] if r["group"] != ALL_REDUCE and "refused" not in r]


def examples(number: float) -> str:
    return "1" if number <= 1 else f"{ceil(number):,}"


def amount(size: float) -> str:
    """8 B, 1 KiB, 64 MiB"""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024 or unit == "MiB":
            break
        size /= 1024
    return f"{size:g} {unit}"


# ── The picture ──────────────────────────────────────────────────────────────────────────────────


def draw(record: Record, file: Path) -> Path:
    """Three panels: the exchange by size; then weak and strong scaling of three models on paper."""
    from tinycv.show.draw import figure, save

    network = NETWORKS[0]
    fig = figure(sentence(record, network), 15, 5.4)
    exchange, *scalings = fig.subplots(1, 3)
    exchange_panel(exchange, record)
    kinds = (
        ("Weak scaling: each worker has the table's batch", weak),
        ("Strong scaling: they share the table's batch", strong),
    )
    for ax, (title, efficiency) in zip(scalings, kinds, strict=True):
        efficiency_panel(ax, record, network, efficiency)
        ax.set_title(title, fontsize=11)
    handles, labels = scalings[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower right", ncols=4, frameon=False, fontsize=9)
    return save(fig, file)


def shares_of_64(record: Record, network: Network) -> list[tuple[float, Record]]:
    """The efficiency of each model on 64 workers (weak scaling, rank order) with the row of its
    step, the lowest efficiency first."""
    found = []
    for row in steps(record):
        traffic, per_example = costs(record, row)
        found.append((weak(64, per_example * batch_of(row), traffic, network), row))
    return sorted(found, key=lambda pair: pair[0])


def shown_models(record: Record, network: Network) -> list[Record]:
    """The models that lose most and least by sending, and one in the middle: lines of all models
    would hide each other."""
    rows = [row for _, row in shares_of_64(record, network)]
    return [rows[i] for i in sorted({0, len(rows) // 2, len(rows) - 1})]


def sentence(record: Record, network: Network) -> str:
    """The title: the best and the worst model on 64 workers."""
    shares = shares_of_64(record, network)
    (low, worst), (high, best) = shares[0], shares[-1]
    warning = " (a quick run: the figures mean nothing)" if record["quick"] else ""
    return (
        f"On paper, 64 workers on {network.name} keep {high:.0%} of their speed with the "
        f"{short(best)}, and {low:.0%} with the {short(worst)} (weak scaling, rank order){warning}"
    )


def short(row: Record) -> str:
    """The name of a model without its sizes."""
    return row["group"].split(",")[0].split(" ")[0]


def exchange_panel(ax: Any, record: Record) -> None:
    from tinycv.show.colours import LINES

    for i, name in enumerate((*TWO.values(), IN_ANY_ORDER)):
        found = exchange_times(record, name)
        if found:
            sizes, seconds = found
            milliseconds = [1e3 * t for t in seconds]
            ax.plot(sizes, milliseconds, "os^D"[i] + "-", color=LINES[i], label=name, markersize=5)
    ax.set_title("All-reduce between two workers, measured here", fontsize=11)
    ax.set_xlabel("bytes")
    ax.set_ylabel("ms (median)")
    ax.set_xscale("log")
    ax.set_yscale("log")
    if ax.lines:  # a quick run measures too few sizes for a line
        ax.legend(frameon=False, fontsize=9)
    tidy(ax)


def efficiency_panel(ax: Any, record: Record, network: Network, efficiency: Any) -> None:
    """Efficiency against workers, one colour per model: solid lines for sums in rank order, dashed
    ones for sums in any order."""
    from tinycv.show.colours import LINES

    for i, row in enumerate(shown_models(record, network)):
        traffic, per_example = costs(record, row)
        compute = per_example * batch_of(row)
        for in_rank_order, style in ((True, "-"), (False, "--")):
            shares = [efficiency(n, compute, traffic, network, in_rank_order) for n in CURVE]
            label = row["group"] if in_rank_order else None
            mark = "os^"[i] if in_rank_order else ""
            ax.plot(CURVE, shares, mark + style, color=LINES[i], label=label, markersize=4)
    ax.plot([], [], "--", color="grey", label="sums in any order")
    ax.set_xscale("log", base=2)
    ax.set_xticks(CURVE, [f"{n:,}" if i % 2 == 0 else "" for i, n in enumerate(CURVE)])
    ax.set_ylim(0, 1.03)
    ax.set_xlabel(f"workers on {network.name} (on paper)")
    ax.set_ylabel("efficiency")
    tidy(ax)


def tidy(ax: Any) -> None:
    from tinycv.show.colours import PALE

    ax.grid(True, color=PALE, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
