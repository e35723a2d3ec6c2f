"""Bad files: one clear line, exit code 2, no traceback, and nothing written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
from cli_runner import assert_refused, stepfold

RNG = np.random.default_rng(0)
MATRIX = RNG.standard_normal((30, 12))
RHS = RNG.standard_normal(30)
SPARSE = sp.csr_array(MATRIX * (MATRIX > 0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "A.npy", MATRIX)
    np.save(tmp_path / "b.npy", RHS)
    return tmp_path


def _refused_as_matrix(folder: Path, name: str, *words: str) -> None:
    output = folder / "x.npy"
    assert_refused(stepfold("solve", folder / name, folder / "b.npy", "-o", output), *words)
    assert_refused(stepfold("explain", folder / name), *words)
    assert not output.exists()


def _refused_as_rhs(folder: Path, name: str, *words: str) -> None:
    output = folder / "x.npy"
    assert_refused(stepfold("solve", folder / "A.npy", folder / name, "-o", output), *words)
    assert_refused(stepfold("explain", folder / "A.npy", "--rhs", folder / name), *words)
    assert not output.exists()


@pytest.mark.parametrize("ending", ["npy", "npz", "mtx"])
def test_empty_files_are_refused(folder, ending) -> None:
    (folder / f"bad.{ending}").touch()
    _refused_as_matrix(folder, f"bad.{ending}", f"bad.{ending} cannot be read as .{ending}")
    _refused_as_rhs(folder, f"bad.{ending}", f"bad.{ending} cannot be read as .{ending}")


@pytest.mark.parametrize("ending", ["npy", "npz", "mtx"])
@pytest.mark.parametrize(
    "content", [b"\0" * 200, b"hello\n" * 20, b"\xff\xfe\0" * 30, b"PK\x03\x04" + b"\0" * 60]
)
def test_garbage_is_refused(folder, ending, content) -> None:
    (folder / f"bad.{ending}").write_bytes(content)
    _refused_as_matrix(folder, f"bad.{ending}", "cannot be read", "cut short or damaged?")


@pytest.mark.parametrize("keep", [1, 7, 60, 127, 128, 136, 1000, -9, -1])
def test_npy_files_cut_short_are_refused(folder, keep) -> None:
    content = (folder / "A.npy").read_bytes()
    (folder / "cut.npy").write_bytes(content[:keep])
    _refused_as_matrix(folder, "cut.npy", "cut.npy cannot be read as .npy")


@pytest.mark.parametrize("keep", [1, 30, 100, 500, 0.3, 0.5, 0.9, -30, -1])
def test_npz_files_cut_short_are_refused(folder, keep) -> None:
    sp.save_npz(folder / "S.npz", SPARSE)
    content = (folder / "S.npz").read_bytes()
    end = int(keep * len(content)) if isinstance(keep, float) else keep
    (folder / "cut.npz").write_bytes(content[:end])
    _refused_as_matrix(folder, "cut.npz", "cut.npz cannot be read as .npz")


@pytest.mark.parametrize("lines", [0, 1, 2, 3, 20, -2])
@pytest.mark.parametrize("form", ["sparse", "dense"])
def test_mtx_files_cut_short_are_refused(folder, lines, form) -> None:
    # A cut inside the last number cannot be told from a shorter number.
    scipy.io.mmwrite(folder / "S.mtx", SPARSE if form == "sparse" else MATRIX)
    content = (folder / "S.mtx").read_text().splitlines(keepends=True)
    (folder / "cut.mtx").write_text("".join(content[:lines]))
    _refused_as_matrix(folder, "cut.mtx", "cut.mtx cannot be read as .mtx")


@pytest.mark.parametrize("place", [0, 10, 90, 130, 0.5, 0.95])
def test_npz_files_with_flipped_bytes_end_without_traceback(folder, place) -> None:
    sp.save_npz(folder / "S.npz", SPARSE)
    content = bytearray((folder / "S.npz").read_bytes())
    start = int(place * len(content)) if isinstance(place, float) else place
    content[start : start + 4] = bytes(255 - byte for byte in content[start : start + 4])
    (folder / "flip.npz").write_bytes(content)
    run = stepfold("solve", folder / "flip.npz", folder / "b.npy", "-o", folder / "x.npy")
    assert run.code in (0, 2)  # some bytes of an archive mean nothing
    if run.code == 2:
        assert_refused(run, "flip.npz")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([["a", "b"]]), "must hold numbers, got dtype <U1"),
        (np.zeros((3, 2), "datetime64[s]"), "must hold numbers"),
        (np.zeros((3, 2), [("a", float)]), "must hold numbers"),
        (np.array([[1, None]], dtype=object), "Object arrays cannot be loaded"),
        (np.where(MATRIX[3, 4] == MATRIX, np.nan, MATRIX), "must be finite, got nan at index (3, "),
        (np.where(MATRIX[3, 4] == MATRIX, np.inf, MATRIX), "must be finite, got inf at index (3, "),
        (np.where(MATRIX[3, 4] == MATRIX, -np.inf, MATRIX), "must be finite, got -inf"),
    ],
    ids=["strings", "dates", "records", "objects", "nan", "inf", "-inf"],
)
def test_entries_that_are_not_finite_numbers_are_refused(folder, array, words) -> None:
    np.save(folder / "bad.npy", array, allow_pickle=True)
    _refused_as_matrix(folder, "bad.npy", "bad.npy", words)
    _refused_as_rhs(folder, "bad.npy", "bad.npy", words)


def test_pickles_are_never_loaded(folder) -> None:
    class Trap:
        def __reduce__(self):
            return (Path.touch, (folder / "sprung",))

    np.save(folder / "bad.npy", np.array([[Trap()]], dtype=object), allow_pickle=True)
    _refused_as_matrix(folder, "bad.npy", "allow_pickle=False")
    assert not (folder / "sprung").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("ending", ["npz", "mtx"])
def test_sparse_entries_that_are_not_finite_are_refused(folder, ending, value) -> None:
    matrix = SPARSE.copy()
    matrix.data[5] = value
    if ending == "npz":
        sp.save_npz(folder / "bad.npz", matrix)
    else:
        scipy.io.mmwrite(folder / "bad.mtx", matrix)
    _refused_as_matrix(folder, f"bad.{ending}", f"bad.{ending}", "must be finite")


@pytest.mark.parametrize("shape", [(), (360,), (2, 15, 12), (0, 3), (3, 0), (0, 0)])
def test_arrays_that_are_no_matrix_are_refused(folder, shape) -> None:
    np.save(folder / "bad.npy", np.ones(shape))
    _refused_as_matrix(folder, "bad.npy", f"{shape}")


@pytest.mark.parametrize("shape", [(), (7,), (12,), (30, 4), (2, 15, 12), (0,), (2, 0)])
def test_right_hand_sides_that_do_not_fit_are_refused(folder, shape) -> None:
    np.save(folder / "bad.npy", np.ones(shape))
    _refused_as_rhs(folder, "bad.npy", "RHS must have shape (30,) or (batch, 30)", f"{shape}")


def test_files_that_are_not_there_are_refused(folder) -> None:
    _refused_as_matrix(folder, "no.npy", "no.npy: there is no such file")
    _refused_as_rhs(folder, "no.mtx", "no.mtx: there is no such file")


@pytest.mark.parametrize("name", ["d", "d.npy", "d.npz", "d.mtx"])
def test_folders_are_refused(folder, name) -> None:
    (folder / name).mkdir()
    _refused_as_matrix(folder, name, name)
    _refused_as_rhs(folder, name, name)


@pytest.mark.parametrize("name", ["A.txt", "A", "A.npy.gz", ".npy"])
def test_unknown_endings_are_refused(folder, name) -> None:
    (folder / name).write_bytes((folder / "A.npy").read_bytes())
    _refused_as_matrix(folder, name, "unknown ending", ".npy or .npz (NumPy, SciPy sparse)")


@pytest.mark.parametrize(("name", "twin"), [("A.npy", "A.npz"), ("S.npz", "S.npy")])
def test_files_under_the_wrong_ending_are_refused(folder, name, twin) -> None:
    sp.save_npz(folder / "S.npz", SPARSE)
    (folder / twin).write_bytes((folder / name).read_bytes())
    _refused_as_matrix(folder, twin, f"{twin} cannot be read")


def _header(shape: str) -> bytes:
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00v\x00" + text.ljust(117).encode() + b"\n" + b"\0" * 80


@pytest.mark.parametrize(
    "shape",
    ["(99999999999, 99999)", "(10**20, 9)", "(99999999999999999999, 9)", "(-1, 3)", "x", "[[[("],
)
def test_npy_headers_that_lie_are_refused(folder, shape) -> None:
    (folder / "bad.npy").write_bytes(_header(shape))
    _refused_as_matrix(folder, "bad.npy", "bad.npy")


@pytest.mark.parametrize(
    "text",
    [
        "%%MatrixMarket matrix coordinate real general\n3 3 2\n1 1 1\n7 7 2\n",
        "%%MatrixMarket matrix coordinate real general\n3 3 2\n1 1 1\n0 1 2\n",
        "%%MatrixMarket matrix coordinate real general\n3 3 2\n1 1 abc\n2 2 2\n",
        "%%MatrixMarket matrix array real general\n9999999999 9999999\n1\n2\n",
        "%%MatrixMarket matrix coordinate real general\n-3 3 1\n1 1 1\n",
        "%%MatrixMarket matrix coordinate real general\n",
        "%%MatrixMarket vector coordinate real general\n3 1\n1 1\n",
    ],
    ids=["row 7 of 3", "row 0", "word", "huge", "negative", "no size", "vector"],
)
def test_mtx_files_that_lie_are_refused(folder, text) -> None:
    (folder / "bad.mtx").write_text(text)
    _refused_as_matrix(folder, "bad.mtx", "bad.mtx")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("indices", np.array([0, 1, 2, 3, 99])),
        ("indices", np.array([0, 1, 2, 3, -4])),
        ("indptr", np.array([0, 3, 1, 2, 4, 5])),
        ("indptr", np.array([0, 1, 2, 3, 4, 500])),
        ("format", b"xyz"),
        ("shape", (5,)),
        ("shape", (2, 2)),
        ("shape", (-5, 5)),
        ("data", np.array([None] * 5, dtype=object)),
        ("data", np.ones(3)),
    ],
)
def test_inconsistent_sparse_archives_are_refused(folder, field, value) -> None:
    # Unchecked indices end in a segmentation fault in the first product.
    parts = {
        "indices": np.arange(5),
        "indptr": np.arange(6),
        "format": b"csr",
        "shape": (5, 5),
        "data": np.ones(5),
        "_is_array": True,
    }
    np.savez(folder / "bad.npz", allow_pickle=True, **{**parts, field: value})
    _refused_as_matrix(folder, "bad.npz", "bad.npz")


@pytest.mark.parametrize("missing", ["indices", "indptr", "format", "shape", "data"])
def test_incomplete_sparse_archives_are_refused(folder, missing) -> None:
    sp.save_npz(folder / "S.npz", SPARSE)
    with np.load(folder / "S.npz") as archive:
        parts = {name: archive[name] for name in archive.files if name != missing}
    np.savez(folder / "bad.npz", **parts)
    _refused_as_matrix(folder, "bad.npz", "bad.npz")


@pytest.mark.parametrize("form", ["csr", "csc", "bsr", "coo", "dia"])
def test_every_sparse_format_is_read(folder, form) -> None:
    diagonal = np.arange(1.0, 31.0)
    matrix = sp.diags_array(diagonal).asformat(form)
    sp.save_npz(folder / "D.npz", matrix)
    output = folder / "x.npy"
    assert stepfold("solve", folder / "D.npz", folder / "b.npy", "-o", output).code == 0
    np.testing.assert_allclose(np.load(output), RHS / diagonal, atol=1e-7)


@pytest.mark.parametrize("form", ["sparse", "dense"])
def test_matrix_market_files_are_read(folder, form) -> None:
    scipy.io.mmwrite(folder / "A.mtx", SPARSE if form == "sparse" else MATRIX)
    scipy.io.mmwrite(folder / "b.mtx", RHS[:, None])
    output = folder / "x.npy"
    run = stepfold("solve", folder / "A.mtx", folder / "b.mtx", "-o", output, "--rtol", 1e-10)
    assert run.code == 0
    dense = SPARSE.toarray() if form == "sparse" else MATRIX
    expected = np.linalg.lstsq(dense, RHS)[0]
    np.testing.assert_allclose(np.load(output), expected, atol=1e-7)


def test_a_missing_folder_is_called_missing(folder) -> None:
    _refused_as_matrix(folder, "nowhere", "nowhere does not exist; give .npy or .npz")
