"""What a job costs: seconds times price. A job on a GPU pays for one card, any other for its CPU threads."""


def hourly(prices: dict, on_gpu: bool, threads: int = 1) -> float:
    """Price of one job for an hour, in the currency of `prices` (gpu_hour, cpu_hour)."""
    return prices["gpu_hour"] if on_gpu else prices["cpu_hour"] * threads


def cost(record: dict, prices: dict) -> float:
    """Price of one finished job, out of its run record."""
    return record["seconds"] / 3600 * hourly(prices, record.get("device") == "cuda", record["threads"])
