"""Operator processes that start within milliseconds: each is forked from one that has imported everything.

Run as `python -P zygote.py` with the operator's environment. Each line of standard input makes one; it is answered by
the process's id, and by another line when that has ended. One process at a time.
"""

import os
import sys

from mce_operator import __main__ as operator


def main() -> None:
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(operator.main())
        print(child, flush=True)
        os.waitpid(child, 0)
        print("ended", flush=True)


if __name__ == "__main__":
    main()
