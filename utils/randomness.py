"""Random numbers of one's own: what runs beside a student's cells neither disturbs their random numbers nor is it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import torch

Item = TypeVar("Item")


def undisturbed(steps: Iterator[Item], *, seed: int, device: torch.device | str) -> Iterator[Item]:
    """`steps`, each taken with torch's random numbers as the step before left them, the first with those of `seed`.

    Between the steps torch's global random numbers (those of the CPU and of `device`) are what they were: who iterates
    may draw from them, and set a seed, and the steps come out the same.
    """
    device = torch.device(device)
    own = None
    while True:
        others = _state(device)
        if own is None:
            torch.manual_seed(seed)
        else:
            _set(own, device)
        try:
            item = next(steps, _END)
        finally:
            own = _state(device)
            _set(others, device)
        if item is _END:
            return
        yield item


_END = object()


def _state(device: torch.device) -> list[torch.Tensor]:
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    elif device.type == "mps":
        states.append(torch.mps.get_rng_state())
    return states


def _set(states: list[torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(states[1])
