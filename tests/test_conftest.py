"""What pytest says about tests that it skips."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


def test_missing_data_files_take_one_line(tmp_path: Path) -> None:
    skipped = ("test_omniglot.py", "test_images.py", "test_text.py")
    chosen = ["-p", "no:cacheprovider", "-k", "mnist or ink_is_white or wikitext_trains"]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", *chosen]
    done = subprocess.run(
        [*command, *(str(TESTS / name) for name in skipped)],
        cwd=TESTS.parent,
        env={**os.environ, "MULTISTEP_BENCH_DATA": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    lines = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    (line,) = [line for line in lines if "MULTISTEP_BENCH_DATA" in line]
    reason = "no data files; README.md says how to name a folder of them in $MULTISTEP_BENCH_DATA"
    assert line == f"SKIPPED [4] tests: {reason}"
    assert "\n4 skipped" in done.stdout
