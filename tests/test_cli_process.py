"""The program in a process of its own: exit codes, pipes, missing packages, start-up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli_runner import assert_refused, stepfold

import stepfold as package
from stepfold.cli import COMMANDS

PROGRAM = "import sys; from _stepfold_command import main; sys.argv[0] = 'stepfold'; main()"
STEPS = ("steps", "--lower", "1", "--upper", "9", "--period", "500")


def _environment(**changes: str) -> dict[str, str]:
    source = str(Path(package.__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1", **changes}


def _process(*arguments, before: str = "", **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"{before}\n{PROGRAM}", *map(str, arguments)],
        env=_environment(**options.pop("env", {})),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def _block(*names: str) -> str:
    """Code after which these packages cannot be imported."""
    return f"import sys\nfor name in {names!r}: sys.modules[name] = None"


def test_a_good_command_exits_with_0() -> None:
    done = _process("steps", "--lower", 1, "--upper", 9, "--period", 2, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert '"name": "Chebyshev"' in done.stdout


def test_bad_input_exits_with_2_and_one_line(tmp_path) -> None:
    done = _process("solve", tmp_path / "A.npy", tmp_path / "b.npy", "-o", tmp_path / "x.npy")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"Error: {tmp_path / 'A.npy'}: there is no such file\n"


def test_a_run_that_does_not_converge_exits_with_1(tmp_path) -> None:
    np.save(tmp_path / "A.npy", np.diag([1.0, 100.0]))
    np.save(tmp_path / "b.npy", np.ones(2))
    done = _process("solve", "A.npy", "b.npy", "-o", "x.npy", "--max-steps", 0, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), np.zeros(2))


def test_a_damaged_sparse_file_does_not_crash_the_process(tmp_path) -> None:
    parts = {"indptr": np.arange(6), "format": b"csr", "shape": (5, 5), "data": np.ones(5)}
    np.savez(tmp_path / "A.npz", indices=np.array([0, 1, 2, 3, 10**6]), **parts)
    done = _process("explain", tmp_path / "A.npz")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [STEPS, (*STEPS, "--json"), ("list",), ("--help",)])
def test_a_reader_that_leaves_at_once_is_no_error(arguments) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments],
            env=_environment(),
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.stderr == ""
    assert done.returncode in (0, 1)


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output_is_one_clear_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, "list"],
            env=_environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert (done.returncode, done.stderr) == (2, "Error: No space left on device\n")


@pytest.mark.parametrize("arguments", [STEPS, ("list",), ("--help",), ("--version",)])
def test_closed_standard_output_is_no_error(arguments) -> None:
    before = "import sys; sys.stdout = None"  # as Python has it under `>&-`
    done = _process(*arguments, before=before)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437"])
def test_signs_that_an_output_cannot_show_are_spelled_out(encoding) -> None:
    words = (sys.executable, "-c", PROGRAM, "accelerate", "--help")
    environment = _environment(PYTHONIOENCODING=encoding)
    done = subprocess.run(words, env=environment, capture_output=True, timeout=120, check=True)
    assert done.stderr == b""
    assert "||f(x) - x||" in done.stdout.decode(encoding)


def test_errors_are_spelled_out_too(tmp_path) -> None:
    name = tmp_path / "Größe λ.npy"
    done = _process("plan", name, env={"PYTHONIOENCODING": "ascii"})
    assert done.stderr == f"Error: {tmp_path / 'Gr??e lambda.npy'}: there is no such file\n"


@pytest.mark.parametrize(
    "place", ["numpy", "click", "stepfold.cli", "stepfold.measure", "stepfold.lab.report"]
)
def test_an_interrupt_during_imports_is_one_line(tmp_path, place) -> None:
    np.save(tmp_path / "A.npy", np.eye(3))
    before = (
        "import builtins, os, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "plain = builtins.__import__\n"
        "def hook(name, *rest, **more):\n"
        f"    if name == {place!r}:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return plain(name, *rest, **more)\n"
        "builtins.__import__ = hook\n"
    )
    done = _process("explain", "A.npy", before=before, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Interrupted.\n")


@pytest.mark.parametrize("place", ["load_matrix", "load_vector", "check_output"])
def test_an_interrupt_before_the_work_is_one_line(tmp_path, place) -> None:
    np.save(tmp_path / "A.npy", np.eye(3))
    np.save(tmp_path / "b.npy", np.ones(3))
    before = (
        "import signal, stepfold.cli.solve as module\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"module.{place} = lambda *a, **k: signal.raise_signal(signal.SIGINT)\n"
    )
    done = _process("solve", "A.npy", "b.npy", "-o", "x.npy", before=before, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Interrupted.\n")
    assert not (tmp_path / "x.npy").exists()


def test_an_interrupt_after_the_last_word_changes_no_exit_code() -> None:
    before = (
        "import atexit, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "atexit.register(signal.raise_signal, signal.SIGINT)\n"
    )
    done = _process("nonsense", before=before)
    assert (done.returncode, done.stderr) == (2, "Error: No such command 'nonsense'.\n")


def test_a_program_told_to_ignore_interrupts_goes_on() -> None:
    before = "import os, signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    after = "import atexit, os, signal; atexit.register(os.kill, os.getpid(), signal.SIGINT)"
    done = _process("--version", before=f"{before}\n{after}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_is_shown_on_a_terminal_only(tmp_path, is_terminal) -> None:
    np.save(tmp_path / "A.npy", np.diag(np.linspace(1.0, 2.0, 30)))
    np.save(tmp_path / "b.npy", np.ones(30))
    main, side = os.openpty()
    before = "import stepfold.cli.progress as p; p.FIRST_AFTER = p.EVERY = 0"
    words = ("solve", "A.npy", "b.npy", "-o", "x.npy")
    done = subprocess.run(
        [sys.executable, "-c", f"{before}\n{PROGRAM}", *words],
        env=_environment(),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=side if is_terminal else subprocess.PIPE,
        text=True,
        timeout=120,
        check=True,
    )
    if not is_terminal:
        assert done.stderr == ""
    else:
        shown = os.read(main, 10_000).decode()
        assert "\rstep 1, gradient norm" in shown
        assert shown.endswith(" \r")
        assert "\n" not in shown
    os.close(main)
    os.close(side)
    assert "step 1" not in done.stdout


def test_matplotlib_missing_is_told_with_its_extra_before_the_work(tmp_path) -> None:
    done = _process("run", "dugd", "-o", tmp_path / "run", before=_block("matplotlib", "torch"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "matplotlib, which is not installed" in done.stderr
    assert "pip install '.[lab]'" in done.stderr
    assert os.listdir(tmp_path) == []


def test_torch_missing_is_told_with_its_extra(tmp_path) -> None:
    done = _process("run", "dugd", "-o", tmp_path / "run", before=_block("torch"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "`stepfold.unfolded` needs torch, which is not installed" in done.stderr
    assert "pip install '.[unfolded]'" in done.stderr
    assert os.listdir(tmp_path) == []


def test_everything_but_drawing_and_training_works_without_them(tmp_path) -> None:
    np.save(tmp_path / "A.npy", np.diag([1.0, 4.0]))
    np.save(tmp_path / "b.npy", np.ones(2))
    block = _block("matplotlib", "torch")
    for words in (
        ("list",),
        ("steps", "--lower", 1, "--upper", 9, "--period", 2),
        ("explain", "A.npy", "--rhs", "b.npy"),
        ("solve", "A.npy", "b.npy", "-o", "x.npy"),
    ):
        done = _process(*words, before=block, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")


def test_help_loads_no_heavy_package() -> None:
    after = (
        "import atexit, sys\n"
        "heavy = ('torch', 'matplotlib', 'scipy', 'numba', 'rich')\n"
        "atexit.register(lambda: print([n for n in heavy if n in sys.modules], file=sys.stderr))"
    )
    assert _process("--help", before=after).stderr == "[]\n"


def test_a_traceback_is_shown_on_request() -> None:
    done = _process("run", "no", env={"STEPFOLD_TRACEBACK": "1"})
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_an_interrupt_during_a_solve_writes_the_best_iterate(tmp_path) -> None:
    np.save(tmp_path / "A.npy", np.diag(np.geomspace(1e-9, 1.0, 50)))
    np.save(tmp_path / "b.npy", np.ones(50))
    words = ("solve", "A.npy", "b.npy", "-o", "x.npy", "--max-steps", "1000000000")
    # Constant steps creep: the norm falls a little every time, and the budget never ends.
    options = ("--method", "constant", "--period", "1", "--lower", "1e-9", "--upper", "1")
    # The signal must not hit the imports; and a shell that starts tests in the background has them
    # ignore it.
    ready = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import stepfold.cli.solve as data; real = data.run_solve\n"
        "data.run_solve = lambda *a, **k: (open('ready', 'w').close(), real(*a, **k))[1]\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", ready + PROGRAM, *words, *options],
        env=_environment(),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()  # or it would creep on for days
    assert (process.returncode, err) == (1, "")
    assert "INTERRUPTED" in out
    assert np.load(tmp_path / "x.npy").any()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_an_example(command) -> None:
    run = stepfold(command, "--help")
    assert (run.code, run.err) == (0, "")
    assert f"\n    stepfold {command}" in run.out.partition("Example:")[2]


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help_names_every_command(words) -> None:
    run = stepfold(*words)
    assert (run.code, run.err) == (0, "")
    assert "Example:\n    stepfold steps" in run.out
    assert all(f"\n  {command} " in run.out for command in COMMANDS)


def test_the_version_is_the_package_s() -> None:
    assert stepfold("--version").out == f"stepfold, version {package.__version__}\n"


@pytest.mark.parametrize("words", [("nonsense",), ("--nonsense",), ("solv",)])
def test_unknown_commands_are_refused(words) -> None:
    assert_refused(stepfold(*words), words[0])


@pytest.mark.parametrize("command", COMMANDS)
def test_unknown_options_are_refused(command) -> None:
    assert_refused(stepfold(command, "--nonsense"), "--nonsense")
