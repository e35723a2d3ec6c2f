"""What the readers make of files, beside SciPy and NumPy; and files that lie about their size."""

from __future__ import annotations

import io
import os
import resource
import zipfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp

from stepfold.cli.files import load_matrix, load_vector
from stepfold.cli.formats import memory, read_array

RNG = np.random.default_rng(5)
DENSE = RNG.standard_normal((7, 5))
SPARSE = sp.coo_array(DENSE * (DENSE > 0.3))
SQUARE = DENSE[:5] + DENSE[:5].T
SKEW = DENSE[:5] - DENSE[:5].T
HERMITIAN = SQUARE + 1j * SKEW


def _refusal(path: Path, read: Any = read_array) -> str:
    with pytest.raises((click.UsageError, ValueError)) as refused:
        read(path)
    message = getattr(refused.value, "message", str(refused.value))
    assert "\n" not in message
    assert str(path).partition(":")[0] in message
    return message


def _dense(matrix: Any) -> Any:
    return matrix.toarray() if sp.issparse(matrix) else matrix


# Matrix Market


@pytest.mark.parametrize(
    ("matrix", "symmetry"),
    [
        (SPARSE, "general"),
        (DENSE, "general"),
        (DENSE[:, :1], "general"),
        (SPARSE * (1 + 2j), "general"),
        (DENSE * (1 + 2j), "general"),
        (SQUARE, "symmetric"),
        (SKEW, "skew-symmetric"),
        (HERMITIAN, "hermitian"),
        (sp.coo_array(SQUARE), "symmetric"),
        (sp.coo_array(SKEW), "skew-symmetric"),
        (sp.coo_array(HERMITIAN), "hermitian"),
        (sp.coo_array(HERMITIAN.real + 1j * SQUARE), "symmetric"),
        (sp.coo_array(np.array([[3, 0], [0, -7]])), "general"),
        (np.array([[3, 0], [0, -7]]), "general"),
        (sp.coo_array((4, 3)), "general"),
        (1e-300 * DENSE, "general"),
    ],
)
def test_matrix_market_files_hold_what_was_written(tmp_path, matrix, symmetry) -> None:
    scipy.io.mmwrite(tmp_path / "A.mtx", matrix, symmetry=symmetry, precision=17)
    read = read_array(tmp_path / "A.mtx")
    assert sp.issparse(read) == sp.issparse(matrix)
    np.testing.assert_array_equal(_dense(read), _dense(matrix))
    np.testing.assert_array_equal(_dense(read), _dense(scipy.io.mmread(tmp_path / "A.mtx")))


def test_patterns_are_ones(tmp_path) -> None:
    scipy.io.mmwrite(tmp_path / "A.mtx", SPARSE, field="pattern")
    np.testing.assert_array_equal(read_array(tmp_path / "A.mtx").toarray(), SPARSE.toarray() != 0)


@pytest.mark.parametrize(
    "text",
    [
        "%%MatrixMarket matrix coordinate real general\n% a note\n\n%\n2 2 2\n1 1 1.5\n2 2 -2",
        "%%matrixmarket MATRIX Coordinate Real General\r\n2 2 2\r\n1 1 1.5\r\n2 2 -2\r\n",
        "%%MatrixMarket matrix coordinate real general\n2 2 2\n\n 1\t1  15e-1 \n2 2 -2\n\n",
        "%%MatrixMarket matrix array real general\n2 2\n1.5\n0\n% note\n0\n-2\n",
    ],
)
def test_what_the_format_allows_is_read(tmp_path, text) -> None:
    (tmp_path / "A.mtx").write_bytes(text.encode())
    np.testing.assert_array_equal(_dense(read_array(tmp_path / "A.mtx")), np.diag([1.5, -2]))


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        ("1 1 7E", "line 3, column 3: '7E' is no number"),
        ("1 1 7.25e-", "line 3, column 3: '7.25e-' is no number"),
        ("1 1 1\n2 2 -", "line 4, column 3: '-' is no number"),
        ("1 1 1\n2 2", "line 4 has 2 values where 3 are due"),
        ("1 1 1\n2", "line 4 has 1 values where 3 are due"),
        ("1 1 1\n", "declares 3 entries, and has 1"),
        ("1 1 1\n" * 4, "declares 3 entries, and has 4"),
        ("1 1 0x10\n2 2 1\n2 1 1\n", "'0x10' is no number"),
        ("1 1 1_0\n2 2 1\n2 1 1\n", "'1_0' is no number"),
        ("1 1 1 1\n2 2 1 1\n2 1 1 1\n", "line 3 has 4 values where 3 are due"),
        ("1 1.5 1\n2 2 1\n2 1 1\n", "entry 1 lies at row 1 and column 1.5"),
        ("1 1 1\n9 2 1\n2 1 1\n", "entry 2 lies at row 9 and column 2"),
        ("1 1 1\n1e999 2 1\n2 1 1\n", "entry 2 lies at row inf"),
        ("nan 1 1\n2 2 1\n2 1 1\n", "entry 1 lies at row nan"),
        ("1 1 nan\n2 2 1\n2 1 1\n", "must be finite, got nan at index (0, 0)"),
    ],
)
def test_entries_that_are_cut_or_wrong_are_named(tmp_path, tail, words) -> None:
    head = "%%MatrixMarket matrix coordinate real general\n2 2 3\n"
    (tmp_path / "A.mtx").write_text(head + tail)
    assert words in _refusal(tmp_path / "A.mtx")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("matrix array real general\n2 2", "declares 4 entries"),
        ("matrix array pattern general\n1 1\n", "must hold numbers, got a pattern"),
        ("matrix array quaternion general\n1 1\n1\n", "no known kind"),
        ("matrix array real general 7\n1 1\n1\n", "does not begin"),
        ("vector array real general\n1 1\n1\n", "does not begin"),
        ("matrix array real symmetric\n2 3\n1\n1\n1\n", "it is symmetric, and its shape is (2, 3)"),
        ("matrix array real general\n1 1 1\n1\n", "line 2 must give its size, got '1 1 1'"),
        ("matrix coordinate real general\n-1 1 1\n1\n", "line 2 must give its size"),
        ("matrix coordinate real symmetric\n2 2 2\n1 2 1\n2 1 1\n", "entries of both triangles"),
        ("matrix coordinate real skew-symmetric\n2 2 1\n1 1 1\n", "entries on its diagonal"),
    ],
)
def test_headers_that_make_no_sense_are_told(tmp_path, text, words) -> None:
    (tmp_path / "A.mtx").write_text("%%MatrixMarket " + text)
    assert words in _refusal(tmp_path / "A.mtx")


# Comma-separated values


@pytest.mark.parametrize("head", ["", "a,b,c\n", '"a, b",b,"c"\n', "\n", "x,1,2\n", "1.5,y,3\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_tables_with_and_without_names_are_read(tmp_path, head, end) -> None:
    body = ["1,-2.5,3e2", " 4, 5 ,6", '"7",8,9.']
    text = head + (end or "\n").join(body) + end
    (tmp_path / "A.csv").write_bytes(text.encode())
    expected = [[1, -2.5, 300], [4, 5, 6], [7, 8, 9]]
    np.testing.assert_array_equal(read_array(tmp_path / "A.csv"), expected)


def test_tables_keep_every_digit(tmp_path) -> None:
    text = "\n".join(",".join(map(repr, row)) for row in DENSE.tolist())
    (tmp_path / "A.csv").write_text("\N{ZERO WIDTH NO-BREAK SPACE}" + text, encoding="utf-8")
    np.testing.assert_array_equal(read_array(tmp_path / "A.csv"), DENSE)


def test_complex_tables_are_read(tmp_path) -> None:
    (tmp_path / "A.csv").write_text("re,im\n1+2j,3\n-4j,5e-1\n")
    np.testing.assert_array_equal(read_array(tmp_path / "A.csv"), [[1 + 2j, 3], [-4j, 0.5]])


def test_one_column_is_one_right_hand_side(tmp_path) -> None:
    (tmp_path / "b.csv").write_text("y\n1\n2\n3\n")
    np.testing.assert_array_equal(load_vector(tmp_path / "b.csv"), [1, 2, 3])


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("2-", [[1, 2], [3, 4]]),
        ("1-2", [[0, 1], [1, 3]]),
        ("3", [[2], [4]]),
        ("size", [[1], [3]]),
        ("price,size", [[2, 1], [4, 3]]),
        ("price,1", [[2, 0], [4, 1]]),
    ],
)
def test_columns_are_chosen_by_name_or_number(tmp_path, columns, expected) -> None:
    (tmp_path / "A.csv").write_text(",size,price\n0,1,2\n1,3,4\n")
    np.testing.assert_array_equal(read_array(Path(f"{tmp_path / 'A.csv'}:{columns}")), expected)


def test_texts_in_columns_that_are_not_chosen_do_not_matter(tmp_path) -> None:
    (tmp_path / "A.csv").write_text("name,size\nspruce,1\nfir,2\n")
    np.testing.assert_array_equal(read_array(Path(f"{tmp_path / 'A.csv'}:size")), [[1], [2]])


def test_an_index_as_pandas_writes_it_is_never_taken_for_data(tmp_path) -> None:
    (tmp_path / "A.csv").write_text(",a,b\n0,1.5,2\n1,3,4\n")
    assert f"{tmp_path / 'A.csv'}:2- for all but the first" in _refusal(tmp_path / "A.csv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,2\n3,4,5\n", "line 2 has 3 values where 2 are due"),
        ("a,b\n1,2\n3\n", "line 3 has 1 values where 2 are due"),
        ("a,b\n1,2\n3,fir\n", "line 3, column 2: 'fir' is no number"),
        ("1,2\n\n3,\n", "line 3, column 2: is empty"),
        ("1;2\n3;4\n", "line 2, column 1: '3;4' is no number"),
        ("a,b\n", "it holds no numbers"),
        ("\n\n", "it holds no numbers"),
        ("1,nan\n", "must be finite, got nan at index (0, 1)"),
        ("1,2\n3,inf\n", "must be finite, got inf at index (1, 1)"),
        ("1,1_0\n", "it holds no numbers"),
        ("1\0,2\n3,4\0\n", "line 2, column 2"),
    ],
)
def test_tables_that_are_no_matrix_are_told(tmp_path, text, words) -> None:
    (tmp_path / "A.csv").write_text(text)
    assert words in _refusal(tmp_path / "A.csv")


@pytest.mark.parametrize("columns", ["4", "0", "3-2", "0-", "weight", "size,weight"])
def test_columns_that_are_not_there_are_told(tmp_path, columns) -> None:
    (tmp_path / "A.csv").write_text("name,size,price\n0,1,2\n")
    assert "3" in _refusal(Path(f"{tmp_path / 'A.csv'}:{columns}"))


# Archives


def test_an_archive_of_one_array_is_that_array(tmp_path) -> None:
    np.savez(tmp_path / "A.npz", matrix=DENSE)
    np.testing.assert_array_equal(read_array(tmp_path / "A.npz"), DENSE)


def test_arrays_of_an_archive_are_named_behind_a_colon(tmp_path) -> None:
    np.savez_compressed(tmp_path / "A.npz", A=DENSE, b=DENSE[:, 0], c=DENSE * 1j)
    np.testing.assert_array_equal(read_array(Path(f"{tmp_path / 'A.npz'}:c")), DENSE * 1j)
    np.testing.assert_array_equal(load_vector(Path(f"{tmp_path / 'A.npz'}:b")), DENSE[:, 0])
    message = _refusal(tmp_path / "A.npz")
    assert f"holds several arrays; name one, as {tmp_path / 'A.npz'}:A (A, b, c)" in message
    assert "holds no array 'd'; it holds A, b, c" in _refusal(Path(f"{tmp_path / 'A.npz'}:d"))


def test_a_file_whose_own_name_has_a_colon_is_read(tmp_path) -> None:
    np.save(tmp_path / "A.npz:x.npy", DENSE)
    np.testing.assert_array_equal(read_array(tmp_path / "A.npz:x.npy"), DENSE)


@pytest.mark.parametrize("form", ["csr", "csc", "bsr", "coo", "dia"])
@pytest.mark.parametrize("compressed", [True, False])
def test_sparse_archives_hold_what_was_written(tmp_path, form, compressed) -> None:
    matrix = (SPARSE * (1 + 1j)).asformat(form)
    sp.save_npz(tmp_path / "A.npz", matrix, compressed=compressed)
    read = read_array(tmp_path / "A.npz")
    assert read.format == "csr"
    np.testing.assert_array_equal(read.toarray(), matrix.toarray())


def test_old_sparse_matrices_are_read(tmp_path) -> None:
    sp.save_npz(tmp_path / "A.npz", sp.csr_matrix(DENSE))
    np.testing.assert_array_equal(read_array(tmp_path / "A.npz").toarray(), DENSE)


def _sparse_archive(path: Path, **changes: Any) -> None:
    matrix = sp.bsr_array(np.ones((4, 6)), blocksize=(2, 3))
    parts = {name: getattr(matrix, name) for name in ("data", "indices", "indptr", "shape")}
    np.savez(path, **{"format": b"bsr", **parts, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": np.array([5, 6])}, "multiple of its blocks"),
        ({"shape": np.array([4, 7])}, "multiple of its blocks"),
        ({"shape": np.array([4.0, 6.0])}, "'shape' of a sparse array must hold integers"),
        ({"shape": np.array([4, 6, 1])}, "'shape' of a sparse array must hold integers"),
        ({"indices": np.array([0.0, 1, 0, 1])}, "'indices' of a sparse array must hold integers"),
        ({"indices": np.array([0, 1, 0, 2])}, "between 0 and 1, got 2"),
        ({"indptr": np.array([[0, 2, 4]])}, "'indptr' of a sparse array must hold integers"),
        ({"format": b"sky"}, "its sparse format 'sky' is unknown"),
        ({"format": np.zeros(2)}, "'format' of a sparse array must be a word"),
        ({"data": np.array("ones")}, "its entries are no numbers"),
    ],
)
def test_sparse_archives_that_contradict_themselves_are_refused(tmp_path, changes, words) -> None:
    _sparse_archive(tmp_path / "A.npz", **changes)
    assert words in _refusal(tmp_path / "A.npz")


def test_a_checksum_that_is_wrong_is_found(tmp_path) -> None:
    np.savez(tmp_path / "A.npz", A=DENSE)
    content = bytearray((tmp_path / "A.npz").read_bytes())
    place = content.index(DENSE.tobytes()) + 100
    content[place] ^= 1
    (tmp_path / "A.npz").write_bytes(content)
    assert "Bad CRC-32" in _refusal(tmp_path / "A.npz")


# Sizes that are promised


def _promise(shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    declared = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, declared)
    return header.getvalue()


@pytest.mark.parametrize("shape", [(10**7, 10**7), (2**40,), (1, 10**15)])
def test_arrays_larger_than_memory_are_not_begun(tmp_path, shape) -> None:
    with (tmp_path / "A.npy").open("wb") as file:
        file.write(_promise(shape))
        file.truncate(file.tell() + min(8 * 2**40, 8 * 10**15))  # a hole, which takes no disk
    assert "cannot be read" in _refusal(tmp_path / "A.npy") or "GB" in _refusal(tmp_path / "A.npy")


def test_the_memory_that_is_missing_is_told(tmp_path) -> None:
    with (tmp_path / "A.npy").open("wb") as file:
        file.write(_promise((2**20, 2**20)))
        file.truncate(file.tell() + 2**43)
    message = _refusal(tmp_path / "A.npy")
    assert "A.npy does not fit into memory: it takes 8.8e+03 GB and" in message


def test_an_archive_that_unpacks_to_more_than_it_declares_is_not_unpacked(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "A.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("A.npy", _promise((10**6, 10**6)) + b"\0" * 10**7)
    assert "its header declares 8000000000000 bytes" in _refusal(tmp_path / "A.npz")


def test_headers_of_gigabytes_are_not_read(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "A.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("A.npy", b"\x93NUMPY\x02\x00" + (2**31).to_bytes(4, "little") + b"\0" * 99)
    assert "declares its own length as 2147483648 bytes" in _refusal(tmp_path / "A.npz")


@pytest.mark.parametrize("shape", [(10**12, 3), (3, 10**12), (10**30, 10**30)])
def test_huge_empty_matrices_are_refused(tmp_path, shape) -> None:
    text = f"{shape[0]} {shape[1]} 1\n1 1 1\n"
    (tmp_path / "A.mtx").write_text("%%MatrixMarket matrix coordinate real general\n" + text)
    assert "does not fit into memory: a problem with a matrix" in _refusal(tmp_path / "A.mtx")


def test_a_sparse_archive_with_a_huge_shape_is_refused(tmp_path) -> None:
    parts = {"row": np.array([0]), "col": np.array([0]), "data": np.ones(1)}
    np.savez(tmp_path / "A.npz", format=b"coo", shape=np.array([10**12, 10**12]), **parts)
    assert "does not fit into memory" in _refusal(tmp_path / "A.npz")


def test_a_declared_count_beyond_the_file_is_refused_before_memory_is_taken(tmp_path) -> None:
    text = "%%MatrixMarket matrix array real general\n30000 30000\n1\n"
    (tmp_path / "A.mtx").write_text(text)
    assert "it declares 900000000 entries, and has" in _refusal(tmp_path / "A.mtx")


def test_a_wide_sparse_right_hand_side_is_not_made_dense(tmp_path, monkeypatch) -> None:
    sp.save_npz(tmp_path / "b.npz", sp.coo_array(([1.0], ([0], [0])), shape=(10**5, 10**5)))
    monkeypatch.setattr(memory, "_free", lambda: iter([10**9]))
    assert "takes 80 GB and 1 GB are free" in _refusal(tmp_path / "b.npz", load_vector)


def test_the_process_own_limit_is_the_memory_there_is(monkeypatch) -> None:
    here = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (used + 10**8, here[1]))
    memory.check_room(10**7)
    with pytest.raises(MemoryError, match=r"it takes 1 GB and 0\.\d+ GB are free"):
        memory.check_room(10**9)


def test_where_nothing_is_known_of_memory_nothing_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(memory, "_free", lambda: iter(()))
    memory.check_room(10**18)


@pytest.mark.parametrize("ending", ["npy", "npz", "mtx", "csv"])
def test_pipes_are_not_waited_for(tmp_path, ending) -> None:
    os.mkfifo(tmp_path / f"A.{ending}")
    assert "is not a regular file" in _refusal(tmp_path / f"A.{ending}")


@pytest.mark.parametrize("ending", ["npy", "npz", "mtx", "csv"])
def test_files_that_are_not_there_are_told(tmp_path, ending) -> None:
    assert "there is no such file" in _refusal(tmp_path / f"A.{ending}")


def test_a_vector_is_no_matrix(tmp_path) -> None:
    np.save(tmp_path / "A.npy", np.ones(4))
    assert "must hold a matrix, got an array of shape (4,)" in _refusal(
        tmp_path / "A.npy", load_matrix
    )
