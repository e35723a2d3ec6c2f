"""``stepfold scale``."""

import json
from pathlib import Path

from click.testing import CliRunner

from stepfold.cli import cli
from stepfold.distributed.scale import METHODS, Costs, HaloWork

NETWORK = ("--latency", "1e-6", "--bandwidth", "1e9")


def invoke(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["scale", *words])
    return result.exit_code, result.output


def test_the_numbers_are_those_of_the_model() -> None:
    code, text = invoke(*NETWORK, "--unknowns", "1000000", "--period", "32", "--json")
    assert code == 0
    record = json.loads(text)
    costs, work = Costs.from_dict(record["costs"]), HaloWork.from_dict(record["work"])
    assert (costs.latency, costs.per_byte) == (1e-6, 1e-9)
    assert work.entries == 5_000_000
    assert record["processes"][-1] == 10_000
    for method in METHODS:
        expected = [work.step_seconds(costs, n, method, 32) for n in record["processes"]]
        assert record["seconds"][method] == expected


def test_there_are_no_more_processes_than_unknowns() -> None:
    code, text = invoke(*NETWORK, "--unknowns", "5", "--json")
    assert code == 0
    assert json.loads(text)["processes"] == [1, 2, 4]


def test_with_x_everywhere_conjugate_gradients_are_recommended() -> None:
    code, text = invoke(*NETWORK, "--rows", "--unknowns", "1000", "--entries", "1000000")
    assert code == 0
    assert "prefer conjugate gradients" in text


def test_a_depth_is_for_unknowns_and_changes_known_steps_only() -> None:
    words = (*NETWORK, "--unknowns", "1000000", "--json")
    flat, deep = (json.loads(invoke(*words, "--depth", depth)[1]) for depth in ("1", "4"))
    assert deep["work"]["depth"] == 4
    work, costs = HaloWork.from_dict(deep["work"]), Costs.from_dict(deep["costs"])
    assert deep["seconds"]["known steps"][-1] == work.step_seconds(costs, 10_000, "known steps")
    assert flat["work"]["depth"] == 1
    code, text = invoke(*NETWORK, "--rows", "--depth", "4")
    assert code == 2
    assert "leave out --rows" in text


def test_one_process_must_be_told_of_its_network() -> None:
    code, text = invoke("--latency", "1e-6")
    assert code == 2
    assert "give --latency and --bandwidth" in text


def test_the_figure_is_written_and_not_replaced(tmp_path: Path) -> None:
    picture = tmp_path / "scale.svg"
    words = (*NETWORK, "--unknowns", "1000", "-o", str(picture))
    assert invoke(*words)[0] == 0
    assert "pipelined" in picture.read_text()
    assert invoke(*words)[0] == 2
