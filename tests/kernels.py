"""Runs what computes as other processors would: ``python tests/kernels.py [NAME ...]``.

OpenBLAS, NumPy, torch and Numba choose their code by the processor, and each choice rounds in its
own way. Their environment variables make a newer processor use the code of an older one. In each
setting the tests that compute are run, and the published experiment; exit code 0 if all pass in all
of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Tests of words, files, processes and pages: rounding has no part in them.
WITHOUT_NUMBERS = (
    "browser",
    "checks*",
    "chromium",
    "cli_*",
    "dugd",
    "explorer_*",
    "imports",
    "kernels_settings",
    "lab_*",
    "*_in_browser",
    "notebooks",
    "out_of_core_failures",
    "*refusals",
    "registry",
    "site",
    "unfolded_checkpoints",
    "unfolded_claims",
    "unfolded_resume",
    "unfolded_storage",
)
# What each level of instructions may not use, as NumPy names the parts of its code.
ABOVE = {"sse4": ("",), "avx": ("",), "avx2": ("AVX512", "X86_V4", "AVX10"), "avx512": ("none",)}
NEEDS = {"sse4": "SSE42", "avx": "AVX", "avx2": "AVX2", "avx512": "AVX512_SKX"}
ATEN = {"sse4": "default", "avx": "default", "avx2": "avx2", "avx512": "avx512"}


@dataclass(frozen=True)
class Kernels:
    """A processor to compute like: names of OpenBLAS and LLVM, level of instructions, threads."""

    openblas: str
    llvm: str
    level: str
    num_threads: int = 1
    alias: str | None = None  # the name under which OpenBLAS's wheels have the same code


SETTINGS = (
    Kernels("Nehalem", "nehalem", "sse4"),
    Kernels("Sandybridge", "sandybridge", "avx"),
    Kernels("Haswell", "haswell", "avx2", num_threads=2),
    Kernels("Zen", "znver1", "avx2", alias="Haswell"),
    Kernels("SkylakeX", "skylake-avx512", "avx512"),
)
PROBE = """
import json, threadpoolctl, numpy, scipy.linalg, torch
print(json.dumps([
    *(part.get("architecture", "") for part in threadpoolctl.threadpool_info()
      if part["internal_api"] == "openblas"),
    torch.backends.cpu.get_cpu_capability(),
]))
"""


def environment(kernels: Kernels, dispatched: Sequence[str]) -> dict[str, str]:
    """Variables under which the libraries compute like this; ``dispatched`` are NumPy's parts."""
    above = [part for part in dispatched if part.startswith(ABOVE[kernels.level])]
    return {
        "OPENBLAS_CORETYPE": kernels.openblas,
        "NPY_DISABLE_CPU_FEATURES": " ".join(above),
        "ATEN_CPU_CAPABILITY": ATEN[kernels.level],
        "NUMBA_CPU_NAME": kernels.llvm,
        "OMP_NUM_THREADS": str(kernels.num_threads),
        "OPENBLAS_NUM_THREADS": str(kernels.num_threads),
        "MKL_NUM_THREADS": str(kernels.num_threads),
    }


def without_effect(kernels: Kernels, variables: dict[str, str]) -> str | None:
    """What a library says that it uses, if that is not what was asked for."""
    answer = subprocess.run(
        [sys.executable, "-c", PROBE], env=variables, check=True, capture_output=True, text=True
    )
    *openblas, aten = json.loads(answer.stdout)
    if not openblas or not {*openblas} <= {kernels.openblas, kernels.alias}:
        return f"NumPy and SciPy use OpenBLAS's {openblas or 'nothing'}"
    if aten.lower() != ATEN[kernels.level]:
        return f"torch uses {aten}"
    return None


def failures(kernels: Kernels, dispatched: Sequence[str], options: Sequence[str]) -> list[str]:
    """What fails in this setting."""
    variables = {**os.environ, **environment(kernels, dispatched)}
    wrong = without_effect(kernels, variables)
    if wrong is not None:
        return [wrong]
    ignored = [f"--ignore-glob=*/test_{name}.py" for name in WITHOUT_NUMBERS]
    # Two processes of two threads each would wait for one another on two cores.
    workers = str(2 // kernels.num_threads)
    tests = [sys.executable, "-m", "pytest", "-q", "-n", workers, *ignored, *options]
    failed = []
    if subprocess.run(tests, cwd=ROOT, env=variables, check=False).returncode != 0:
        failed.append("tests")
    with tempfile.TemporaryDirectory() as folder:
        run = [sys.executable, "-m", "stepfold", "run", "dugd", "-o", f"{folder}/dugd"]
        if subprocess.run(run, cwd=ROOT, env=variables, check=False).returncode != 0:
            failed.append("stepfold run dugd")
    return failed


def main(words: Sequence[str] | None = None) -> int:
    """Run the settings that are named, or all; the exit code."""
    names = [kernels.openblas for kernels in SETTINGS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--pytest", action="append", default=[], help="an option for pytest")
    chosen = parser.parse_args(words)
    unknown = set(chosen.names) - set(names)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: no such kernels; there are {', '.join(names)}")
    import numpy._core._multiarray_umath as numpy_code

    ends = []
    for kernels in SETTINGS:
        if chosen.names and kernels.openblas not in chosen.names:
            continue
        needed = NEEDS[kernels.level]
        if not numpy_code.__cpu_features__.get(needed, False):
            ends.append((f"not run: this {platform.machine()} processor has no {needed}", kernels))
            continue
        print(f"== {kernels.openblas}, {kernels.num_threads} thread(s)", flush=True)
        start = time.monotonic()
        failed = failures(kernels, numpy_code.__cpu_dispatch__, chosen.pytest)
        seconds = f"in {time.monotonic() - start:.0f} s"
        end = f"FAILED {seconds}: {', '.join(failed)}" if failed else f"passed {seconds}"
        ends.append((end, kernels))
    for end, kernels in ends:
        print(f"{kernels.openblas}: {end}")
    passed = [end.startswith("passed") for end, _ in ends if not end.startswith("not run")]
    return 0 if passed and all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
