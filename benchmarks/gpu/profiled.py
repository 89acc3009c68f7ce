"""Where the time of a training step goes: the device's kernels, by what they are for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

import bcgraph
from benchmarks.gpu.measure import finished, seconds
from benchmarks.gpu.plan import Plan
from benchmarks.gpu.steps import stepper
from benchmarks.harness import Row

KINDS: Mapping[str, re.Pattern[str]] = {
    "neurons and packed spikes": re.compile(r"^kernel|bcgraph|_Step"),
    "batch norms": re.compile(r"batch_?norm|bn_fw|bn_bw", re.IGNORECASE),
    "convolutions and products": re.compile(
        r"conv|gemm|cutlass|xmma|wgrad|dgrad|implicit|addmm|cudnn|mkldnn|linear", re.IGNORECASE
    ),
    "update": re.compile(r"multi_tensor|foreach|sgd|adam", re.IGNORECASE),
    "copies": re.compile(r"copy|memcpy|memset|fill|zero", re.IGNORECASE),
    "sums": re.compile(r"reduce|sum|mean", re.IGNORECASE),
}
"""What the kernels of each kind are called; the first that fits counts."""

STEPS = 3


def training(plan: Plan) -> Iterator[Row]:
    """The share of each kind of kernel in a captured training step, and of all kernels in its time."""
    for precision in ("tf32", "bf16"):
        call = stepper(bcgraph.compile(plan.spec(), device=plan.device), plan.images(), precision, captured=True)
        for _ in range(4):
            call()
        on_device = plan.device == "cuda"
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_device else [])]
        alone = min(seconds(plan, call) for _ in range(STEPS))
        with profile(activities=activities) as recorded:
            for _ in range(STEPS):
                call()
            finished(plan)
        spent: dict[str, float] = {}
        for event in recorded.key_averages():
            if on_device == (event.device_type == DeviceType.CUDA):
                time = event.self_device_time_total if on_device else event.self_cpu_time_total
                spent[kind(event.key)] = spent.get(kind(event.key), 0.0) + time / 1000 / STEPS
        total = sum(spent.values())
        what = f"a training step, {precision}, batch {plan.batch}"
        share = f"{total / 1000 / alone:.0%}"
        yield Row(f"{what}: all kernels / the step", f"{total:.2f} ms", f"{alone * 1000:.2f} ms", share, "")
        for name, time in sorted(spent.items(), key=lambda item: -item[1]):
            yield Row(f"{what}: {name} / all kernels", f"{time:.2f} ms", f"{total:.2f} ms", f"{time / total:.0%}", "")


def kind(name: str) -> str:
    """What a kernel is for, by its name."""
    return next((found for found, pattern in KINDS.items() if pattern.search(name)), "other elementwise kernels")
