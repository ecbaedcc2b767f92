"""utils/results.py: what is filed is what is read, whatever crashed in between; the table says what was measured."""

import json
import os
import random
from dataclasses import replace

import pandas as pd
import pytest

from utils import results
from utils.architectures import LENET, LENET_BOOK, VGG_SMALL
from utils.results import COLUMNS, Point, ResultsFile, in_words, pareto_front, points, table

VGG = VGG_SMALL["VGG (1,1)"]
VERSIONS = {"python": "3.11.7", "torch": "2.11.0", "system": "Linux"}


def throughput(architecture, images_per_s=1000.0, **changes):
    conditions = {"batch_size": 256, "dtype": "float32", "device": "a CPU", "threads": 2, "versions": VERSIONS}
    conditions |= changes
    key = json.dumps([architecture.digest, conditions])
    stamp = {"kind": "throughput", "key": key, "label": architecture.label, "digest": architecture.digest}
    return stamp | {"images_per_s": images_per_s, "low": 0.9 * images_per_s, "high": 1.2 * images_per_s} | conditions


def run(architecture, accuracy=0.5, seed=0, **changes):
    conditions = {
        "recipe": {"epochs": 2, "lr": 0.1},
        "evaluate_on": "test",
        "data": {"digest": "d" * 64, "size": 60_000},
        "dtype": "float32",
        "device": "a CPU",
        "versions": VERSIONS,
    } | {name: value for name, value in changes.items() if name not in ("is_sample", "train_images_per_s")}
    return {
        "kind": "run",
        "key": json.dumps([architecture.digest, seed, conditions]),
        "digest": architecture.digest,
        "architecture": architecture.to_dict(),
        "parameters": 61_706,
        "seed": seed,
        "accuracy": accuracy,
        "is_sample": changes.get("is_sample", False),
        "train_images_per_s": changes.get("train_images_per_s", 100.0),
    } | conditions


# --- the file ---------------------------------------------------------------------------------------------------------

A, B, C = (
    {"kind": "run", "key": "a", "x": 0.1 + 0.2},
    {"kind": "run", "key": "b", "words": "Grüße,\u2028\r\n\x00 “两行”", "none": None, "nested": [{"deep": [1e-300]}]},
    {"kind": "throughput", "key": "a", "device": "Ⅷ cores 😀"},
)


@pytest.fixture
def file(tmp_path):
    return ResultsFile(tmp_path / "a folder" / "that is new" / "results.jsonl")


def filed(file, *records):
    """The file, with these records alone."""
    file.path.unlink(missing_ok=True)
    for record in records:
        file.append(record)
    return file.path.read_bytes()


def test_what_is_appended_is_read(file):
    assert file.read() == [] and file.by_key("run") == {}
    for i, record in enumerate((A, B, C), start=1):
        file.append(record)
        assert file.read() == ResultsFile(str(file.path)).read() == [A, B, C][:i]
    assert file.path.read_bytes().count(b"\n") == 3, "a record is a line"


def test_a_crash_at_any_byte_of_the_last_line_loses_that_line_alone(file):
    for before in ([], [A], [A, C]):
        filed(file, *before, A)
        kept = len(filed(file, *before)) if before else 0
        whole = filed(file, *before, B)
        for end in range(kept, len(whole)):
            file.path.write_bytes(whole[:end])
            assert file.read() == before
            file.append(C)
            assert file.read() == [*before, C], f"torn at byte {end} of {len(whole)}"


def test_a_torn_line_is_cut_before_the_next(file):
    whole = filed(file, A, B)
    file.path.write_bytes(whole + b'{"kind": "run", "key": "c", "accuracy": 0.9')
    assert file.read() == [A, B]
    file.append(C)
    assert file.path.read_bytes() == filed(file, A, B, C)


@pytest.mark.parametrize(
    "broken", [b'{"kind": "ru', b'{"kind": "run"}', b"{}", b"[1, 2]", b"null", b"7", b"\xff\xfe{}", b"{}{}", b"\0" * 9]
)
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_broken_line_is_named(file, broken, number):
    lines = filed(file, A, C).split(b"\n")[:2]
    lines.insert(number - 1, broken)
    file.path.write_bytes(b"\n".join(lines) + b"\n")  # whole, so that it isn't what a crash left
    with pytest.raises(ValueError, match=rf"results\.jsonl, line {number}: a result must be a JSON object") as error:
        file.read()
    assert "Delete that line" in str(error.value)


def test_an_empty_line_is_no_result(file):
    file.path.write_bytes(filed(file, A, C).replace(b"\n", b"\n\n") + b" \n")
    assert file.read() == [A, C]


def test_a_file_with_windows_line_ends_is_read(file):
    content = filed(file, A, C)
    file.path.write_bytes(content.replace(b"\n", b"\r\n"))
    assert file.read() == [A, C]


def test_of_two_records_with_one_key_the_later_counts(file):
    filed(file, A, C, A | {"x": 1}, B, A | {"x": 2})
    assert file.by_key("run") == {"a": A | {"x": 2}, "b": B}
    assert file.by_key("throughput") == {"a": C}
    assert len(file.read()) == 5, "the file itself loses none"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), {1, 2}, object(), "\ud800"])
def test_what_is_no_json_is_refused_and_the_file_left_as_it_was(file, bad):
    with pytest.raises((ValueError, TypeError)):
        file.append({"kind": "run", "key": "c", "nested": [{"loss": bad}]})
    assert not file.path.exists()
    for before in (filed(file, A), filed(file, A) + b'{"torn'):
        file.path.write_bytes(before)
        with pytest.raises((ValueError, TypeError)):
            file.append({"kind": "run", "key": "c", "nested": [{"loss": bad}]})
        assert file.path.read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
def test_a_full_disk_is_an_error_and_loses_nothing_else(file):
    import resource

    before = filed(file, A)
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, usual[1]))
        with pytest.raises(OSError):
            file.append(B)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert file.read() == [A]
    file.append(C)
    assert file.read() == [A, C]


def test_two_who_write_at_once_overwrite_nothing(file, monkeypatch):
    def open_and_be_overtaken(path, mode, **options):
        opened = open(path, mode, **options)
        usual = opened.read

        def read():
            content = usual()
            monkeypatch.delattr(results, "open")
            ResultsFile(path).append(B)  # another process, just now
            return content

        opened.read = read
        return opened

    filed(file, A)
    monkeypatch.setattr(results, "open", open_and_be_overtaken, raising=False)
    file.append(C)
    assert file.read() == [A, B, C]


# --- the Pareto front -------------------------------------------------------------------------------------------------


def beats(one, other):
    """Is it at least as good in both, and better in one?"""
    mine, its = (one.images_per_s, one.accuracy), (other.images_per_s, other.accuracy)
    return mine[0] >= its[0] and mine[1] >= its[1] and mine != its


def test_the_front_is_what_nothing_beats():
    dice = random.Random(0)
    for _ in range(500):  # on a coarse grid, so that there are ties of every kind
        cloud = [Point(str(i), "VGG", dice.randint(1, 5), dice.randint(1, 5) / 5) for i in range(dice.randint(0, 9))]
        expected = {p.label for p in cloud if not any(beats(other, p) for other in cloud)}
        front = pareto_front(iter(cloud))
        assert {p.label for p in front} == expected and len(front) == len(expected), cloud
        assert [p.images_per_s for p in front] == sorted(p.images_per_s for p in front)
        assert [p.accuracy for p in front] == sorted((p.accuracy for p in front), reverse=True)


def test_equal_points_are_both_on_the_front_and_a_slower_equal_is_not():
    best = Point("a", "VGG", 100.0, 0.9)
    equal, slower, worse = replace(best, label="b"), replace(best, images_per_s=99.0), replace(best, accuracy=0.89)
    assert set(pareto_front([slower, best, worse, equal])) == {best, equal}


# --- the table --------------------------------------------------------------------------------------------------------


def test_a_row_is_a_networks_mean_over_its_seeds():
    records = [
        throughput(LENET, 500.0),
        throughput(VGG, 2000.0),
        *(run(VGG, accuracy, seed, train_images_per_s=100 + seed) for seed, accuracy in enumerate((0.9, 0.6, 0.75))),
        run(LENET, 0.8),
    ]
    networks = table(iter(records))
    assert tuple(networks.columns) == COLUMNS and len(networks) == 2
    vgg, lenet = networks.to_dict("records")
    assert vgg.pop("accuracy") == pytest.approx(0.75)
    assert vgg == {
        "label": "VGG (1,1)", "family": "VGG", "parameters": 61_706, "epochs": 2, "seeds": 3, "evaluated_on": "test",
        "accuracy_low": 0.6, "accuracy_high": 0.9, "images_per_s": 2000.0, "images_per_s_low": 1800.0,
        "images_per_s_high": 2400.0, "train_images_per_s": 101.0, "is_sample": False,
        "digest": VGG.digest, "measured_on": "a CPU, batch 256, float32", "architecture": VGG,
        "recipe": {"epochs": 2, "lr": 0.1},
    }  # fmt: skip
    assert (lenet["label"], lenet["seeds"], lenet["images_per_s"]) == ("LeNet", 1, 500.0)
    assert lenet["accuracy"] == lenet["accuracy_low"] == lenet["accuracy_high"] == 0.8


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": {"epochs": 3, "lr": 0.1}},
        {"evaluate_on": "validation"},
        {"data": {"digest": "e" * 64, "size": 60_000}, "is_sample": True},
        {"data": {"digest": "d" * 64, "size": 55_000}},
        {"dtype": "bfloat16"},
        {"device": "another CPU"},
        {"versions": VERSIONS | {"torch": "2.12.0"}},
    ],
    ids=str,
)
def test_runs_that_differ_in_more_than_the_seed_are_not_averaged(change):
    records = [
        throughput(VGG),
        run(VGG, 0.5, 0),
        run(VGG, 0.7, 1),
        run(VGG, 0.9, 0, **change),
        run(VGG, 1.0, 1, **change),
    ]
    networks = table(records)
    assert networks.seeds.tolist() == [2, 2]
    assert networks.accuracy.tolist() == pytest.approx([0.6, 0.95])
    assert networks.is_sample.tolist() == [False, change.get("is_sample", False)]


def test_the_order_of_a_recipes_fields_makes_no_other_recipe():
    records = [throughput(VGG), run(VGG, 0.5, 0), run(VGG, 0.7, 1, recipe={"lr": 0.1, "epochs": 2})]
    assert table(records).seeds.tolist() == [2]


def test_a_run_that_is_there_twice_counts_once():
    networks = table(
        [run(VGG, 0.1), throughput(VGG, 10.0), run(VGG, 0.9), run(VGG, 0.8, seed=1), throughput(VGG, 20.0)]
    )
    assert networks.seeds.tolist() == [2] and networks.images_per_s.tolist() == [20.0]
    assert networks.accuracy_high.tolist() == [0.9] and networks.accuracy_low.tolist() == [0.8]


def test_networks_without_a_run_or_a_throughput_are_left_out():
    records = [throughput(LENET), run(VGG), throughput(LENET_BOOK), run(LENET_BOOK)]
    assert table(records).label.tolist() == ["LeNet (book)"]


@pytest.mark.parametrize("records", [[], [throughput(VGG)], [run(VGG)]], ids=["none", "no run", "no throughput"])
def test_nothing_gives_an_empty_table(records):
    networks = table(records)
    assert isinstance(networks, pd.DataFrame) and tuple(networks.columns) == COLUMNS and networks.empty
    assert points(networks) == []


@pytest.mark.parametrize("second", [VGG, LENET], ids=["of one network", "of two"])
@pytest.mark.parametrize(
    "change",
    [
        {"device": "a GPU"},
        {"threads": 1},
        {"dtype": "bfloat16"},
        {"batch_size": 1},
        {"versions": VERSIONS | {"torch": "2.12.0"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_throughputs_under_different_conditions_are_never_mixed(change, second):
    records = [throughput(VGG), throughput(second, **change), run(VGG), run(second)]
    (name, value), usual = next(iter(change.items())), throughput(VGG)
    for order in (records, records[::-1]):
        with pytest.raises(ValueError, match=f"must share their {name}") as error:
            table(order)
        assert repr(value) in str(error.value) and repr(usual[name]) in str(error.value)
        assert second.label in str(error.value)


def test_points_have_an_interval_if_there_are_several_seeds():
    records = [
        throughput(VGG, 2000.0), throughput(LENET, 500.0), run(LENET, 0.8, is_sample=True),
        run(VGG, 0.9, 0, is_sample=True), run(VGG, 0.6, 1, is_sample=True),
    ]  # fmt: skip
    vgg, lenet = points(table(records))
    where = "a CPU, batch 256, float32"
    alike = {"parameters": 61_706, "epochs": 2, "evaluated_on": "test", "measured_on": where, "is_sample": True}
    assert vgg == Point("VGG (1,1)", "VGG", 2000.0, 0.75, 0.6, 0.9, seeds=2, **alike)
    assert lenet == Point("LeNet", "LeNet", 500.0, 0.8, None, None, seeds=1, **alike)
    assert vgg.is_sample is True, "plain data, not numpy's"


def test_the_table_in_words():
    records = [
        throughput(LENET, 98_765.4), run(LENET, 0.89, train_images_per_s=1234.4),
        throughput(VGG, 5_000.0), run(VGG, 0.80, 0), run(VGG, 0.86, 1),
        throughput(LENET_BOOK, 1_000.0), run(LENET_BOOK, 0.92, 0), run(LENET_BOOK, 0.9, 1),
    ]  # fmt: skip
    words = in_words(table(records))
    assert words.loc["LeNet"].to_dict() == {
        "parameters": "61,706", "test accuracy": "89.00%", "spread": "one seed", "images/s": "98,765",
        "lowest to highest": "88,889 to 118,518",
        "training images/s": "1,234", "front": "*",
    }  # fmt: skip
    assert words.index.tolist() == ["LeNet", "VGG (1,1)", "LeNet (book)"]
    assert words["test accuracy"].tolist() == ["89.00%", "83.00%", "91.00%"]
    assert words.spread.tolist() == ["one seed", "6.00 points", "2.00 points"]
    assert words.front.tolist() == ["*", "", "*"]


def test_a_network_trained_in_two_ways_has_a_star_where_it_deserves_one():
    words = in_words(table([throughput(VGG), run(VGG, 0.8), run(VGG, 0.9, recipe={"epochs": 3, "lr": 0.1})]))
    assert words[["test accuracy", "front"]].to_numpy().tolist() == [["80.00%", ""], ["90.00%", "*"]]


def test_the_table_in_words_says_which_images_and_never_mixes_them():
    chosen_by = [throughput(VGG), run(VGG, 0.8, evaluate_on="validation")]
    assert in_words(table(chosen_by))["validation accuracy"].tolist() == ["80.00%"]
    with pytest.raises(ValueError, match="on the same images, got some on test and some on validation"):
        in_words(table([*chosen_by, run(VGG, 0.9)]))


def test_an_empty_table_in_words_is_empty():
    assert in_words(table([])).empty
