"""``make fuzz``: damaged submissions against the decoder. Each must end in a value or a BadInput, and in nothing else.

Repeatable by its seed. The first payload that ends otherwise is printed with its seed, and the exit status is 1.
"""

import argparse
import random
import sys
import time
from collections import Counter
from typing import List, Optional

from tests.client.payload_mutations import mutated

from pamdi.client.payloads import id_of, read_command, read_result, read_submission
from pamdi.core.errors import BadInput

READERS = (read_submission, read_result, read_command)


def outcome_of(payload: bytes) -> str:
    """What became of it: "read", or the reason of the refusal. Whatever else is raised is a fault of ours."""
    id_of(payload)
    for reader in READERS[1:]:
        try:
            reader(payload)
        except BadInput:
            continue
    try:
        read_submission(payload)
    except BadInput as refusal:
        return refusal.reason.value
    return "read"


def fuzz(count: int, seed: int) -> "Counter[str]":
    """How ``count`` payloads ended."""
    outcomes: "Counter[str]" = Counter()
    for number in range(count):
        payload = mutated(random.Random(f"{seed}/{number}"))
        try:
            outcomes[outcome_of(payload)] += 1
        except Exception as error:
            print(f"seed {seed}, payload {number}: {type(error).__name__}: {error}\n{payload[:300]!r}", file=sys.stderr)
            raise
    return outcomes


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_payloads", description="damage submissions")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        outcomes = fuzz(options.count, options.seed)
    except Exception:
        return 1
    ended = ", ".join(f"{outcome} {number}" for outcome, number in outcomes.most_common())
    print(f"{sum(outcomes.values())} payloads in {time.monotonic() - began:.0f} s, seed {options.seed}: {ended}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
