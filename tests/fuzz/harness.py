"""Coverage-guided fuzzing of the data path (atheris): `harness.py requests|replies [libFuzzer options] [corpus]`.

`make fuzz` runs both. The law is `support.law`; what breaks it is written to a file and goes to the corpus with the
fix. `test_corpus.py` replays the corpus without atheris.
"""

import random
import sys

import atheris

with atheris.instrument_imports(include=["mce_router", "mce_api"]):
    from support import law, mutate

TARGETS = {"requests": law.request_bytes, "replies": law.reply_bytes}


def _mutated(data: bytes, max_size: int, seed: int) -> bytes:
    """Damage that knows HTTP in two of three cases, libFuzzer's own in the others; the first byte says how to run."""
    dice = random.Random(seed)
    if len(data) < 2 or dice.random() < 0.33:
        mutated: bytes = atheris.Mutate(data, len(data))
        return mutated
    control = bytes([dice.randrange(64)]) if dice.random() < 0.2 else data[:1]
    return (control + mutate.damaged(dice, data[1:]))[:max_size]


def main() -> None:
    """Runs until a law is broken or libFuzzer's options say stop."""
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target, custom_mutator=_mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
