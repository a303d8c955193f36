"""Archives of results that a repository ships: found by what was asked, exact, damage is told."""

import json
import zipfile

import pandas as pd
import pytest

from mechshift_lib.errors import ResultError
from mechshift_lib.results.kept import about_address, find, keep
from mechshift_lib.results.store import Store

KEY = {"pair": "toy", "role": "arm", "seed": [1, 9], "code": "a", "device": "cpu", "pool": [0, 2]}
TABLE = pd.DataFrame({"n": [1, 2], "x": [0.1, float("nan")], "s": ["a", "b"]})


@pytest.fixture
def store(tmp_path):
    found = Store(tmp_path / "results")
    found.frames("answers", KEY, lambda: {"one": TABLE, "two": TABLE[:1]})
    return found


@pytest.fixture
def archive(store, tmp_path):
    return keep(tmp_path / "tables" / "seed1.zip", [store.folder("answers", KEY)])


def test_tables_come_back_exactly_whatever_code_and_device(archive, tmp_path):
    for key in (KEY, KEY | {"code": "b", "device": "cuda"}):
        frames, record = find(archive, "answers", key)
        pd.testing.assert_frame_equal(frames["one"], TABLE)
        pd.testing.assert_frame_equal(frames["two"], TABLE[:1])
        assert record["shipped"] == "a"
    for other in ({"pool": [0]}, {"role": "mdm"}, {"seed": [2, 9]}):
        assert find(archive, "answers", KEY | other) is None
    assert find(archive, "cues", KEY) is None
    assert find(tmp_path / "none.zip", "answers", KEY) is None


def test_the_store_takes_what_is_kept_and_says_where_it_was_made(archive, store, tmp_path):
    made = store.provenance("answers", KEY)
    other, key = Store(tmp_path / "other"), KEY | {"code": "b"}

    def refuse():
        raise AssertionError("computed again")

    frames = other.frames("answers", key, refuse, lambda: find(archive, "answers", key))
    pd.testing.assert_frame_equal(frames["one"], TABLE)
    record = other.provenance("answers", key)
    assert (record["created"], record["wall_seconds"]) == (made["created"], made["wall_seconds"])
    assert (record["key"]["code"], record["shipped"]) == ("b", "a")
    missing = key | {"role": "mdm"}
    with pytest.raises(AssertionError, match="computed again"):
        other.frames("answers", missing, refuse, lambda: find(archive, "answers", missing))


def test_the_same_results_give_the_same_bytes(archive, store, tmp_path):
    again = keep(tmp_path / "again.zip", [store.folder("answers", KEY)])
    assert again.read_bytes() == archive.read_bytes()


def test_damage_is_one_sentence(archive):
    whole = archive.read_bytes()
    at = whole.index(b"one.parquet") + 40
    for damaged in (whole[:60], whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]):
        archive.write_bytes(damaged)
        with pytest.raises(ResultError, match="is damaged"):
            find(archive, "answers", KEY)
    with zipfile.ZipFile(archive, "w") as written:
        written.writestr("answers/x/provenance.json", json.dumps({"schema": 1}))
    with pytest.raises(ResultError, match="is damaged"):
        find(archive, "answers", KEY)


def test_an_address_in_another_key_knows_the_question_not_the_code():
    assert about_address("circuits", KEY) == about_address("circuits", KEY | {"code": "b"})
    assert about_address("circuits", KEY) != about_address("circuits", KEY | {"pool": [1]})
