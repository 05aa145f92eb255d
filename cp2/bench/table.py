"""Figures as a printed table."""

from cp2.bench.figures import Figures, Say


def print_table(figures: Figures, say: Say) -> None:
    """What was measured on what, then one line a way."""
    machine, sizes = figures["machine"], figures.get("sizes", {})
    say("")
    say(f"{machine['device']}; {machine['cpu']}; torch {machine['torch']}; {figures['images']}")
    if machine["load"] > machine["cores"]:
        say(f"load {machine['load']}: others used this machine; trust ratios, not rates")
    if sizes:
        say("  ".join(f"{name} {value}" for name, value in sizes.items()))
    if "peak_tflops" in figures:
        peaks = ", ".join(
            f"{peak:.3g} ({'float32' if name == 'off' else name})"
            for name, peak in figures["peak_tflops"].items()
        )
        say(f"matrix products, TFLOP/s: {peaks}")
    say(_HEADER)
    for name, way in figures["ways"].items():
        say(_line(name, way))


_HEADER = (
    f"{'way':<30}{'samples/s':>10}{'(min - max)':>20}{'x publ.':>9}{'% limit':>9}{'wait %':>8}"
    f"{'step ms p50 / p95':>20}{'tensors MiB':>13}{'host MiB':>10}{'GFLOP':>9}{'MFU %':>8}"
)


def _line(name: str, way: Figures) -> str:
    rate, step = way["samples_per_second"], way["step_ms"]
    return (
        f"{name:<30}{rate['median']:>10.1f}{_pair(rate['min'], '-', rate['max']):>20}"
        f"{_number(way['ratio'], 1, 2):>9}{_number(way['share_of_limit'], 100, 1):>9}"
        f"{_number(way['data_wait'], 100, 1):>8}{_pair(step['p50'], '/', step['p95']):>20}"
        f"{_number(way['tensor_mib'], 1, 0):>13}{_number(way['host_mib'], 1, 0):>10}"
        f"{_number(way['gflop_per_sample'], 1, 2):>9}{_number(way['mfu'], 100, 1):>8}"
    )


def _pair(a: float, between: str, b: float) -> str:
    return f"({a:.1f} {between} {b:.1f})" if between == "-" else f"{a:.1f} {between} {b:.1f}"


def _number(value: float | None, factor: float, digits: int) -> str:
    return "-" if value is None else f"{factor * value:.{digits}f}"
