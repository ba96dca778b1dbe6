"""`python -m multistep_bench` is `mstep-bench`."""

from multistep_bench.cli import main

if __name__ == "__main__":
    main()
