"""What the card can do at the model's shapes: matrix products, attention by each kernel, copies.

Attention is compared with float32's on a few hundred queries (all keys) before it is timed, gradients included.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from gpu_bench import GB, Bench, Figures, largest_error, relative_error
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

SECTION = "ceilings"
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
# Rounding of bf16 in and out is 3e-3; a wrong kernel is off by tenths.
TOLERANCE = 2e-2
CHECKED_QUERIES = 256
# The matrices of all scores that torch's plain attention holds at once: float32, forwards and backwards.
MATH_BYTES_PER_SCORE = 20


def measure_ceilings(bench: Bench, frames: int) -> None:
    """At that many frames; what does not depend on them at the first length alone."""
    tokens = bench.scale.tokens(frames)
    if frames == bench.scale.frames[0]:
        bench.attempt(SECTION, "copy on the device", lambda: _copy(bench))
        size = 256 if bench.scale.is_tiny else 8192
        bench.attempt(SECTION, f"matmul {size} x {size} x {size}", lambda: _matmul(bench, size, size, size))
        for n, k in _shapes(bench):
            bench.attempt(SECTION, f"matmul {tokens} x {k} x {n}", functools.partial(_matmul, bench, tokens, k, n))
    found = kernels(bench, tokens)
    if "math" not in found:
        bench.leave_out(SECTION, f"{frames} frames, attention math", "all scores at once do not fit")
    for name, kernel in found.items():
        bench.attempt(
            SECTION,
            f"{frames} frames, attention {name}",
            functools.partial(_attend, bench, tokens, kernel),
            cap_s=60,
        )


def _shapes(bench: Bench) -> list[tuple[int, int]]:
    """Columns out and in of the model's products."""
    config = bench.scale.transformer
    width, inner = config["num_attention_heads"] * config["attention_head_dim"], config["ffn_dim"]
    return [(width, width), (inner, width), (width, inner)]


def _matmul(bench: Bench, m: int, k: int, n: int) -> Figures:
    a, b = (torch.randn(shape, device=bench.device, dtype=torch.bfloat16) for shape in ((m, k), (k, n)))
    rows = a[:CHECKED_QUERIES]
    error = relative_error(rows @ b, rows.float() @ b.float())
    if not error <= TOLERANCE:
        return {"error": error, "wrong": True}
    seconds = bench.seconds_each(lambda: a @ b, 20)
    return {"error": error, "ms": round(seconds * 1e3, 4), "tflops": round(2 * m * k * n / seconds / 1e12, 1)}


def _copy(bench: Bench) -> Figures:
    """Bytes read and bytes written."""
    count = 1 << (20 if bench.scale.is_tiny else 31)
    source = torch.randint(0, 255, (count,), device=bench.device, dtype=torch.uint8)
    target = torch.empty_like(source)
    seconds = bench.seconds_each(lambda: target.copy_(source), 5)
    return {"gb_per_s": round(2 * count / seconds / GB, 1), "wrong": not torch.equal(source, target)}


def kernels(bench: Bench, tokens: int) -> dict[str, Attention]:
    """Attention [B, heads, tokens, D] by name: torch's, and others' where they are installed."""
    found: dict[str, Attention] = {"torch's choice": F.scaled_dot_product_attention}
    for backend in ("FLASH_ATTENTION", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION", "MATH"):
        found[backend.lower()] = _by_torch(getattr(SDPBackend, backend))
    heads = bench.scale.transformer["num_attention_heads"]
    if bench.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(bench.device)
        if MATH_BYTES_PER_SCORE * heads * tokens**2 > free:
            del found["math"]
    for module, name in (("flash_attn", "flash_attn_func"), ("flash_attn_interface", "flash_attn_func")):
        if importlib.util.find_spec(module) is not None:
            found[module] = _by_package(module, name)
    # The last, and once: it is compiled, which takes its time.
    if bench.device.type == "cuda" and tokens == bench.scale.tokens(bench.scale.frames[0]):
        found["flex, compiled"] = _flex
    return found


@functools.cache
def chosen_kernel(bench: Bench, tokens: int, learns: bool = True) -> str:
    """Which kernel torch takes by itself for a clip's self-attention; one of SDPBackend's names."""
    config = bench.scale.transformer
    shape = (1, config["num_attention_heads"], tokens, config["attention_head_dim"])
    one = torch.empty(shape, device=bench.device, dtype=torch.bfloat16, requires_grad=learns)
    return SDPBackend(torch._fused_sdp_choice(one, one, one)).name


def is_chosen(bench: Bench, backend: str | None, tokens: int, learns: bool) -> bool:
    """Whether diffusers' backend of that name is what torch takes anyhow."""
    kernel = {"_native_cudnn": "CUDNN_ATTENTION", "_native_flash": "FLASH_ATTENTION"}.get(backend or "")
    return kernel is not None and chosen_kernel(bench, tokens, learns) == kernel


def _by_torch(backend: SDPBackend) -> Attention:
    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(query, key, value)

    return attend


def _by_package(module: str, name: str) -> Attention:
    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        function: Any = getattr(importlib.import_module(module), name)
        out = function(*(one.transpose(1, 2) for one in (query, key, value)))
        return (out[0] if isinstance(out, tuple) else out).transpose(1, 2)

    return attend


def _flex(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)(query, key, value)


def _attend(bench: Bench, tokens: int, attend: Attention) -> Figures:
    config = bench.scale.transformer
    heads, size = config["num_attention_heads"], config["attention_head_dim"]
    query, key, value = (
        torch.randn(1, heads, tokens, size, device=bench.device, dtype=torch.bfloat16).requires_grad_()
        for _ in range(3)
    )
    upstream = torch.randn_like(query)
    figures = _errors(attend, query, key, value, upstream)
    if attend is F.scaled_dot_product_attention:
        figures["kernel"] = chosen_kernel(bench, tokens)
    if figures["wrong"]:
        return figures

    def forward() -> None:
        with torch.no_grad():
            attend(query, key, value)

    def both() -> None:
        torch.autograd.grad(attend(query, key, value), (query, key, value), upstream)

    operations = 4 * tokens**2 * heads * size
    forward_s, both_s = bench.seconds_each(forward, 5), bench.seconds_each(both, 3)
    backward_s = both_s - forward_s
    return {
        **figures,
        "forward_ms": round(forward_s * 1e3, 3),
        "forward_tflops": round(operations / forward_s / 1e12, 1),
        "backward_ms": round(backward_s * 1e3, 3),
        # Five products where the forward pass has two.
        "backward_tflops": round(2.5 * operations / max(backward_s, 1e-9) / 1e12, 1),
    }


def _errors(attend: Attention, query: Tensor, key: Tensor, value: Tensor, upstream: Tensor) -> Figures:
    """Of the output and of all three gradients, where only the first queries' outputs count."""
    out = attend(query, key, value)
    checked = min(CHECKED_QUERIES, query.shape[2])
    weights = torch.zeros_like(upstream)
    weights[:, :, :checked] = upstream[:, :, :checked]
    gradients = torch.autograd.grad(out, (query, key, value), weights)
    exact = [one.detach().float().requires_grad_() for one in (query[:, :, :checked], key, value)]
    expected = _exactly(*exact)
    expected_gradients = torch.autograd.grad(expected, exact, upstream[:, :, :checked].float())
    error = relative_error(out[:, :, :checked], expected)
    cut = (gradients[0][:, :, :checked], *gradients[1:])
    gradient_error = max(relative_error(*pair) for pair in zip(cut, expected_gradients, strict=True))
    return {
        "error": error,
        "largest_error": largest_error(out[:, :, :checked], expected),
        "gradient_error": gradient_error,
        "wrong": not max(error, gradient_error) <= TOLERANCE,
    }


def _exactly(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    return scores.softmax(-1) @ value
