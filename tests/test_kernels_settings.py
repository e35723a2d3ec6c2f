"""The settings of kernels.py reach the libraries, and what fails in one of them is seen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import kernels
import numpy._core._multiarray_umath as numpy_code
import pytest

HERE = Path(kernels.__file__).parent


@pytest.mark.parametrize("pattern", kernels.WITHOUT_NUMBERS)
def test_every_pattern_names_a_file(pattern: str) -> None:
    assert list(HERE.glob(f"test_{pattern}.py"))


@pytest.mark.parametrize(
    ("name", "disabled"),
    [
        ("Nehalem", "AVX2 FMA3 X86_V3 AVX512_SKX X86_V4"),
        ("Haswell", "AVX512_SKX X86_V4"),
        ("SkylakeX", ""),
    ],
)
def test_numpy_may_use_nothing_above_the_level(name: str, disabled: str) -> None:
    (chosen,) = (setting for setting in kernels.SETTINGS if setting.openblas == name)
    parts = ["AVX2", "FMA3", "X86_V3", "AVX512_SKX", "X86_V4"]  # of old versions and new
    assert kernels.environment(chosen, parts)["NPY_DISABLE_CPU_FEATURES"] == disabled


def _probed(chosen: kernels.Kernels, **changes: str) -> str | None:
    variables = kernels.environment(chosen, numpy_code.__cpu_dispatch__)
    return kernels.without_effect(chosen, {**os.environ, **variables, **changes})


needs_avx2 = pytest.mark.skipif(
    not numpy_code.__cpu_features__.get("AVX2", False), reason="the processor has no AVX2"
)


@needs_avx2
@pytest.mark.parametrize("name", ["Nehalem", "Sandybridge", "Zen"])
def test_the_libraries_use_what_was_asked_for(name: str) -> None:
    (chosen,) = (setting for setting in kernels.SETTINGS if setting.openblas == name)
    assert _probed(chosen) is None


@needs_avx2
def test_a_setting_without_effect_is_seen() -> None:
    nehalem = kernels.SETTINGS[0]
    assert "OpenBLAS's" in str(_probed(nehalem, OPENBLAS_CORETYPE="Haswell"))
    assert _probed(nehalem, ATEN_CPU_CAPABILITY="avx2") == "torch uses AVX2"


def _ends(monkeypatch: pytest.MonkeyPatch, failures: dict[str, list[str]], *words: str) -> int:
    def failing(chosen: kernels.Kernels, *_: Any) -> list[str]:
        return failures.get(chosen.openblas, [])

    monkeypatch.setattr(kernels, "failures", failing)
    return kernels.main(words)


def test_one_failure_fails_all(monkeypatch, capsys) -> None:
    assert _ends(monkeypatch, {}) == 0
    assert _ends(monkeypatch, {"Nehalem": ["tests"]}) == 1
    assert "Nehalem: FAILED in 0 s: tests" in capsys.readouterr().out
    assert _ends(monkeypatch, {"SkylakeX": ["tests"]}, "Nehalem") == 0


def test_a_processor_that_cannot_act_as_any_is_no_success(monkeypatch, capsys) -> None:
    monkeypatch.setattr(numpy_code, "__cpu_features__", {})
    assert _ends(monkeypatch, {}) == 1
    assert "Haswell: not run: " in capsys.readouterr().out


def test_kernels_that_do_not_exist_are_refused(capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        kernels.main(["Nehalm"])
    assert caught.value.code == 2
    assert "Nehalm: no such kernels; there are Nehalem" in capsys.readouterr().err
