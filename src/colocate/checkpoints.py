"""Checkpoints of a training run: one file, whole or not at all, with all that the next step depends on.

Kept: the trained tensors, the optimizer's state, torch's random generators (dropout draws from them), how many steps
are done, and what was measured so far. Not kept: the base model, which does not change, and the order of the data,
which follows from the seed. Read as plain tensors and values, so that a file can hold no code.
"""

import logging
from pathlib import Path

from colocate.errors import InputError
from colocate.files import replacing

log = logging.getLogger("colocate")
NAME = "checkpoint.pt"


def keep(path: Path, key: str, trained: dict, optimizer, done: int, history: list[dict], heldout: list[dict]) -> None:
    """Write the state after `done` steps. `trained`: parameters by name; `key` names the run."""
    import torch

    state = {
        "key": key,
        "trained": {name: parameter.detach() for name, parameter in trained.items()},
        "optimizer": optimizer.state_dict(),
        "generators": [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [])],
        "done": done,
        "history": history,
        "heldout": heldout,
    }
    with replacing(path) as private:
        torch.save(state, private)


def resume(path: Path, key: str, trained: dict, optimizer) -> tuple[int, list[dict], list[dict]]:
    """Restore parameters, optimizer and generators; returns (done, history, heldout). InputError for another key."""
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["key"] != key:
        raise InputError(f"{path}: belongs to another arm, seed or settings; remove it to start over")
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(state["trained"][name])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["generators"][0])
    if len(state["generators"]) > 1:
        torch.cuda.set_rng_state_all(state["generators"][1:])
    log.info("going on after step %d, from %s", state["done"], path)
    return state["done"], state["history"], state["heldout"]
