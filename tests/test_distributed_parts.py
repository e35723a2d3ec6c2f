"""Matrices in parts, and the command on them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import zarr
from cli_runner import stepfold
from test_distributed_processes import launched

from stepfold.distributed import Parts, list_parts, write_parts

RNG = np.random.default_rng(1)
A, B = RNG.standard_normal((203, 30)), RNG.standard_normal(203)
CUTS = [50, 51, 130]
SOLUTION = np.linalg.lstsq(A, B, rcond=None)[0]


@pytest.mark.parametrize("kind", ["dense", "sparse", "zarr", "fortran"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_shares_of_all_processes_are_the_matrix(tmp_path, kind: str, size: int) -> None:
    pieces = np.split(A, [56, 56 + 80] if kind == "zarr" else CUTS)
    if kind == "zarr":
        for count, piece in enumerate(pieces):
            held = zarr.create_array(
                tmp_path / f"{count}.zarr", shape=piece.shape, dtype=piece.dtype, chunks=(8, 7)
            )
            held[:] = piece
        list_parts(tmp_path)
    elif kind == "fortran":
        for count, piece in enumerate(pieces):
            np.save(tmp_path / f"{count}.npy", np.asfortranarray(piece))
        list_parts(tmp_path)
    else:
        write_parts(tmp_path, map(scipy.sparse.csr_array, pieces) if kind == "sparse" else pieces)
    parts = Parts.of_matrix(tmp_path)
    assert parts.shape == A.shape
    found = []
    for rank in range(size):
        rows = parts.rows(*parts.share(rank, size))
        if kind == "zarr" and rank:
            assert parts.share(rank, size)[0] % 8 == 0
        found.append(rows.toarray() if kind == "sparse" else rows[0 : rows.shape[0]])
    np.testing.assert_array_equal(np.concatenate(found), A)


def test_entries_of_many_right_hand_sides_lie_along_the_last_axis(tmp_path) -> None:
    many = RNG.standard_normal((3, 203))
    write_parts(tmp_path, np.split(many, CUTS, axis=1))
    parts = Parts.of_rhs(tmp_path)
    assert parts.shape == (3, 203)
    np.testing.assert_array_equal(parts.entries(40, 140), many[:, 40:140])


def spoil_missing(folder: Path) -> None:
    (folder / "part-00001.npy").unlink()


def spoil_shape(folder: Path) -> None:
    np.save(folder / "part-00001.npy", A[:3])


def spoil_list(folder: Path) -> None:
    (folder / "parts.json").write_text('{"format": "stepfold.parts/1"')


def spoil_no_list(folder: Path) -> None:
    (folder / "parts.json").unlink()


def spoil_file(folder: Path) -> None:
    (folder / "part-00000.npy").write_bytes(b"\x93NUMPY")


def spoil_twice(folder: Path) -> None:
    text = (folder / "parts.json").read_text()
    (folder / "parts.json").write_text(text.replace("part-00003", "part-00002"))


def spoil_name(folder: Path) -> None:
    text = (folder / "parts.json").read_text()
    (folder / "parts.json").write_text(text.replace('"part-00001.npy"', "1.5"))


def spoil_dtype(folder: Path) -> None:
    text = (folder / "parts.json").read_text()
    (folder / "parts.json").write_text(text.replace('"float64"', f'"({"9" * 5000},)f"'))


SPOILT = [
    (spoil_dtype, ValueError, r"parts\.json is damaged"),
    (spoil_name, ValueError, r"parts\.json is damaged .*`file` must be a string, got 1\.5"),
    (spoil_twice, ValueError, r"must name each file once, got 'part-00002\.npy' twice"),
    (spoil_missing, FileNotFoundError, r"part-00001\.npy is missing"),
    (spoil_shape, ValueError, r"does not fit .*part-00001\.npy.*\(1, 30\).*\(3, 30\)"),
    (spoil_list, ValueError, r"parts\.json is damaged"),
    (spoil_no_list, FileNotFoundError, r"has no parts\.json"),
    (spoil_file, ValueError, r"part-00000\.npy is damaged"),
]


@pytest.mark.parametrize(("spoil", "kind", "words"), SPOILT)
def test_a_list_that_does_not_fit_is_refused(tmp_path, spoil: Any, kind: Any, words: str) -> None:
    write_parts(tmp_path, np.split(A, CUTS))
    spoil(tmp_path)
    with pytest.raises(kind, match=words):
        Parts.of_matrix(tmp_path)


@pytest.mark.parametrize("bits", [1, 255])
def test_sparse_parts_that_are_damaged_are_refused_or_read_as_they_were(
    tmp_path: Path, bits: int
) -> None:
    whole = scipy.sparse.csr_array(np.arange(12.0).reshape(4, 3))
    write_parts(tmp_path, [whole])
    path, refused = tmp_path / "part-00000.npz", 0
    content = path.read_bytes()
    for place in range(0, len(content), 11):
        path.write_bytes(content[:place] + bytes([content[place] ^ bits]) + content[place + 1 :])
        try:
            rows = Parts.of_matrix(tmp_path).rows(0, 4)
        except ValueError:
            refused += 1
            continue
        np.testing.assert_array_equal(rows.toarray(), whole.toarray())
    assert refused > len(content) / 11 / 2


def test_parts_of_different_widths_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="as many columns"):
        write_parts(tmp_path, [A[:5], A[5:9, :-1]])


def test_more_processes_than_rows_are_refused(tmp_path) -> None:
    write_parts(tmp_path, [A[:1], A[1:2]])
    with pytest.raises(ValueError, match="2 rows for 3 processes"):
        Parts.of_matrix(tmp_path).share(0, 3)


def test_the_command_solves_parts_on_disk_and_in_memory(tmp_path) -> None:
    write_parts(tmp_path / "A", np.split(A, CUTS))
    write_parts(tmp_path / "b", np.split(B, [100]))
    for memory in ("8000", "1000000"):
        words = (str(tmp_path / "A"), str(tmp_path / "b"), "-o", str(tmp_path / "x.npy"))
        done = stepfold("solve", *words, "--memory", memory, "--force", "--json")
        assert done.code == 0, done.err
        np.testing.assert_allclose(np.load(tmp_path / "x.npy"), SOLUTION, atol=1e-6)


def test_two_processes_of_the_command_write_the_solution_once(tmp_path) -> None:
    write_parts(tmp_path / "A", np.split(A, CUTS))
    np.save(tmp_path / "b.npy", B)
    words = (str(tmp_path / "A"), str(tmp_path / "b.npy"), "-o", str(tmp_path / "x.npy"))
    done = launched(Path("-m"), "stepfold", "solve", *words, "--period", "8")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("CONVERGED") == 1
    assert "over 2 processes" in done.stdout
    np.testing.assert_allclose(np.load(tmp_path / "x.npy"), SOLUTION, atol=1e-6)


POISSON = scipy.sparse.diags_array(
    [4.2, -1.0, -1.0, -1.0, -1.0], offsets=[0, 1, -1, 12, -12], shape=(144, 144)
).tocsr()


@pytest.mark.parametrize("options", [(), ("--period", "8")], ids=["automatic", "known steps"])
def test_the_command_solves_a_symmetric_system_in_parts(tmp_path: Path, options: Any) -> None:
    write_parts(tmp_path / "A", [POISSON[:50], POISSON[50:120], POISSON[120:]])
    rhs = RNG.standard_normal((2, 144))
    np.save(tmp_path / "b.npy", rhs)
    words = (str(tmp_path / "A"), str(tmp_path / "b.npy"), "-o", str(tmp_path / "x.npy"))
    done = stepfold("solve", *words, "--kind", "symmetric", *options)
    assert done.code == 0, done.err
    assert "a symmetric system over 1 process\n" in done.out
    expected = np.linalg.solve(POISSON.toarray(), rhs.T).T
    np.testing.assert_allclose(np.load(tmp_path / "x.npy"), expected, atol=1e-6)


@pytest.mark.slow
def test_two_processes_of_the_command_solve_a_symmetric_system(tmp_path: Path) -> None:
    write_parts(tmp_path / "A", [POISSON[:50], POISSON[50:120], POISSON[120:]])
    np.save(tmp_path / "b.npy", RNG.standard_normal(144))
    words = (str(tmp_path / "A"), str(tmp_path / "b.npy"), "-o", str(tmp_path / "x.npy"))
    checkpoint = ("--checkpoint", str(tmp_path / "run.npz"))
    done = launched(
        Path("-m"), "stepfold", "solve", *words, "--kind", "symmetric", *checkpoint, seconds=240
    )
    assert done.returncode == 0, done.stderr
    assert "a symmetric system over 2 processes" in done.stdout
    expected = np.linalg.solve(POISSON.toarray(), np.load(tmp_path / "b.npy"))
    np.testing.assert_allclose(np.load(tmp_path / "x.npy"), expected, atol=1e-6)
    assert not (tmp_path / "run.npz").exists()


@pytest.mark.parametrize(
    ("parts", "options", "words"),
    [
        ([A], ("--ridge", "auto"), "--ridge auto is not for parts; give a number"),
        ([A], ("--kind", "symmetric"), "is for sparse parts"),
        ([POISSON], ("--kind", "symmetric", "--ridge", "1"), "--ridge goes with least squares"),
        ([POISSON[:100]], ("--kind", "symmetric"), "must be square, got shape (100, 144)"),
        ([A[:5]], (), "must have an entry for each row"),
    ],
)
def test_what_the_command_does_not_do_on_parts_is_refused_before_the_work(
    tmp_path: Path, parts: Any, options: Any, words: str
) -> None:
    write_parts(tmp_path / "A", parts)
    count = 6 if parts[0].shape[0] == 5 else parts[0].shape[0]
    np.save(tmp_path / "b.npy", np.ones(count))
    paths = (str(tmp_path / "A"), str(tmp_path / "b.npy"), "-o", str(tmp_path / "x.npy"))
    done = stepfold("solve", *paths, *options)
    assert done.code == 2
    assert words in done.err
    assert not (tmp_path / "x.npy").exists()
