"""What to do about an error of the Hugging Face hub's client: accept terms, set a token, allow the network."""


def explain(error: Exception, page: str, place: str, otherwise: str = "not found or not reachable") -> str:
    """One line. `page`: the path of the repository on the hub's site; `place`: what was asked for; `otherwise`: what to
    say of an error of any other kind."""
    from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

    page, token = f"https://huggingface.co/{page}", "set HF_TOKEN to a token of that account"
    if isinstance(error, GatedRepoError):
        return (
            f"{place}: gated: accept its terms on {page} with your account, {token}, and run the target `fetch` again"
        )
    if isinstance(error, RepositoryNotFoundError):
        return f"{place}: not found, or private: if {page} shows it to your account, {token}"
    if isinstance(error, OfflineModeIsEnabled):
        return f"{place}: HF_HUB_OFFLINE is set; unset it for the target `fetch`, which needs the network"
    return f"{place}: {otherwise}: {type(error).__name__}: {error}"
