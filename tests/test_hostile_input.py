"""Files that were damaged, or made to do harm, are refused in words; see hostile.py."""

import os
import pickle
import random
import re
import subprocess
import sys
from pathlib import Path

import hostile
import pytest

SCRIPT = Path(__file__).parent / "hostile.py"


def table(*options: str) -> str:
    command = [sys.executable, str(SCRIPT), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_thousand_damaged_files_end_in_words_and_run_no_code() -> None:
    printed = table("--inputs", "1200")
    total = re.search(r"(\d+) inputs in \d+ s: (.*)", printed)
    assert total is not None
    assert int(total[1]) >= 1200
    assert set(re.findall("'(\\w+)'", total[2])) == {"read", "refused"}


@pytest.mark.slow
def test_fifty_thousand_damaged_files_end_in_words_and_run_no_code() -> None:
    assert "inputs in" in table("--inputs", "50000", "--first", "1000000")


def test_the_malicious_seed_does_harm_where_it_is_loaded(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    pickle.loads(pickle.dumps(hostile.Opens(os.fspath(canary)))).close()
    assert canary.exists()


def test_the_same_number_makes_the_same_mutation() -> None:
    seeds = [b"network = 12\n", b"{}"]
    first, second = (
        [hostile.mutated(seeds, random.Random(number)) for number in range(50)] for _ in range(2)
    )
    assert first == second
    assert len(set(first)) > 25
