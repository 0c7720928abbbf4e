"""What jobs ask for, known before anything is loaded: memory, time and card (colocate.needs)."""

from colocate import fits, needs, rates, spending
from colocate.earlier import Earlier


@functools.cache
def asked(ask, name: str, job: tuple, attempt: int) -> int:
    """What a job asks for; the same for all of its kind, of which a study can have thousands."""
    return ask(name, STUDY, dict(job), attempt)


def kind(wildcards) -> tuple:
    return tuple((key, value) for key, value in wildcards.items() if key not in ("seed", "layer", "rate"))


def memory(name: str):
    """mem_mb of the jobs of one name, their estimated peak and a margin; half as much more on each further attempt."""
    return lambda wildcards, attempt: asked(needs.ask_mib, name, kind(wildcards), attempt)


def minutes(name: str):
    """runtime, three times the estimate, 30 minutes at least where a model runs; twice as much on each attempt."""
    return lambda wildcards, attempt: asked(needs.ask_minutes, name, kind(wildcards), attempt)


def check_cards() -> None:
    """Stop where a model does not fit on the cards: those that the config names, or those of this machine.

    Parsed again inside each job of a cluster, on its node: there the node's cards are asked.
    """
    card = STUDY["resources"]["gpu_memory_gib"] * 1024 or devices.card_memory_mib()
    said = fits.refusal(STUDY, card) if CUDA and card else ""
    if said:
        raise WorkflowError(said)


try:
    rates.read(STUDY)
except InputError as error:
    raise WorkflowError(str(error)) from None
check_cards()

if STUDY["budget"]["cost"]:
    # In the environment and not in the command, so that a new limit or a new rate reruns nothing.
    os.environ[spending.VARIABLE] = spending.describe(
        STUDY["study"], STUDY["budget"]["cost"], STUDY["prices"], Earlier(STUDY).costs(), SELECT["models"]
    )
