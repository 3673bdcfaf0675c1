# SPDX-License-Identifier: Apache-2.0
"""The trial store: what goes in comes out, once; other campaigns, damage and second writers are refused."""

from __future__ import annotations

import errno
import json
import os
import re
from dataclasses import asdict, replace
from io import BytesIO

import numpy as np
import pyarrow.parquet as pq
import pytest

from bitward.campaign import SCHEMA, Trial, TrialStore
from bitward.errors import OtherCampaignError, OutputError, StoreError

SPEC = {"flow": "digits", "seed": 1, "sampler": {"name": "single_bit", "per_stratum": 5}}
TRIAL = Trial(0, "rtl", "conv1", "conv1", "weight", 3, 17, 12, 0, 4, 1, 3, 16, 2, 1, None, "ab" * 32)


def trials(*numbers: int) -> list[Trial]:
    return [replace(TRIAL, trial=number, word=number * 7) for number in numbers]


@pytest.fixture
def store(tmp_path):
    with TrialStore.open(tmp_path / "store", SPEC) as opened:
        yield opened


def test_what_goes_in_comes_out_in_order(store):
    store.append(trials(4, 2))
    store.append(trials(0, 1))
    store.append([])
    table = TrialStore.load(store.directory).read()
    assert table.schema == SCHEMA
    assert table.to_pylist() == [asdict(trial) for trial in trials(0, 1, 2, 4)]
    assert store.finished() == {0, 1, 2, 4}


def test_a_dead_bit_has_no_parameter(store):
    dead = replace(TRIAL, parameter=None, replica=None, stored_bit=None, copy=None, parameter_bit=None)
    store.append([dead])
    assert store.read().to_pylist() == [asdict(dead)]


def test_an_empty_store_is_an_empty_table(store):
    assert store.read().schema == SCHEMA
    assert store.finished() == set()
    assert store.result() is None


def test_parts_carry_schema_fingerprint_and_zstd(store):
    store.append(trials(3))
    (part,) = store.directory.glob("part-*.parquet")
    metadata = pq.read_schema(part).metadata
    assert metadata[b"bitward.schema"] == b"3"
    assert metadata[b"bitward.fingerprint"].decode() == store.fingerprint
    assert pq.read_metadata(part).row_group(0).column(0).compression == "ZSTD"


def test_the_spec_is_kept_with_what_made_it(store):
    kept = json.loads((store.directory / "spec.json").read_text())
    assert kept["spec"] == SPEC and kept["fingerprint"] == store.fingerprint
    assert set(kept["made_by"]) == {"bitward", "git"}


def test_a_store_is_continued_by_the_same_campaign_in_any_order_of_keys(store):
    store.append(trials(0))
    store.close()
    with TrialStore.open(store.directory, dict(reversed(SPEC.items()))) as again:
        again.append(trials(1))
        assert again.finished() == {0, 1}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 2}, "seed = 2, was 1"),
        ({"sampler": {"name": "single_bit", "per_stratum": 6}}, "sampler.per_stratum = 6, was 5"),
        ({"ber": 1e-3}, "ber = 0.001, was null"),
    ],
)
def test_another_campaign_is_refused_and_the_parameter_named(store, change, named):
    store.append(trials(0))
    store.close()
    with pytest.raises(
        StoreError, match=rf"^the trials in .* must be continued as they were begun, got {named}: choose "
    ):
        TrialStore.open(store.directory, {**SPEC, **change})
    TrialStore.open(store.directory, SPEC).close()  # the refusal holds no lock


def test_leftovers_of_a_killed_writer_are_ignored_and_cleaned(store):
    store.append(trials(0))
    store.close()
    leftover = store.directory / ".part-00000001.parquet.4711.partial"
    leftover.write_bytes(b"half a part")
    assert TrialStore.load(store.directory).finished() == {0}
    with TrialStore.open(store.directory, SPEC) as again:
        assert again.finished() == {0}
    assert not leftover.exists()


def damage_cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def damage_empty(content: bytes) -> bytes:
    return b""


def damage_flip(content: bytes) -> bytes:
    first = pq.read_metadata(BytesIO(content)).row_group(0).column(0)
    at = len(b"PAR1") + first.total_compressed_size - 1  # the last byte of the first column
    return content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]


@pytest.mark.parametrize("damage", [damage_cut, damage_empty, damage_flip])
def test_a_damaged_part_is_found_and_named(store, damage):
    store.append(trials(*range(100)))
    (part,) = store.directory.glob("part-*.parquet")
    part.write_bytes(damage(part.read_bytes()))
    with pytest.raises(
        StoreError, match=rf"^{re.escape(str(part))} must be a whole part of a trial store, got .* anew"
    ):
        store.read()


def test_no_flipped_byte_of_a_page_goes_unseen(store):
    """Every byte of the part, one at a time: what is read is what was written, or is refused."""
    store.append(trials(*range(8)))
    (part,) = store.directory.glob("part-*.parquet")
    content, expected = part.read_bytes(), store.read()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for at in range(0, footer, 3):
        part.write_bytes(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :])
        try:
            assert store.read().equals(expected)
        except StoreError:
            continue


def test_a_part_of_another_campaign_is_refused(store, tmp_path):
    with TrialStore.open(tmp_path / "other", {**SPEC, "seed": 2}) as other:
        other.append(trials(5))
    (stray,) = other.directory.glob("part-*.parquet")
    stray.rename(store.directory / stray.name)
    with pytest.raises(StoreError, match=r"^.*/part-00000005\.parquet must belong to the campaign \w{12}, got a part "):
        store.read()


def test_a_trial_stored_twice_is_refused(store):
    store.append(trials(0, 1))
    (part,) = store.directory.glob("part-*.parquet")
    (store.directory / "part-00000009.parquet").write_bytes(part.read_bytes())
    with pytest.raises(StoreError, match=r"^the trials in .* must be stored once each, got some twice: choose another"):
        store.read()


def test_a_second_writer_is_refused_while_the_first_lives(store):
    with pytest.raises(StoreError, match=r"^the store .* must be appended to by one process at a time, got a second "):
        TrialStore.open(store.directory, SPEC)
    TrialStore.load(store.directory).read()
    store.close()
    TrialStore.open(store.directory, SPEC).close()


def test_a_loaded_store_is_not_appended_to(store):
    with pytest.raises(StoreError, match=r"^the store .* must be opened to append, got one that was loaded: use open$"):
        TrialStore.load(store.directory).append(trials(0))


def test_a_folder_without_a_store_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"^.* must hold a campaign's trials, got no spec\.json: run bitward inject "):
        TrialStore.load(tmp_path)


def test_parts_without_their_spec_are_not_adopted(store):
    store.append(trials(0))
    store.close()
    (store.directory / "spec.json").unlink()
    with pytest.raises(StoreError, match=r"^.* must have spec\.json beside its parts, got none: choose another "):
        TrialStore.open(store.directory, SPEC)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", r"^.*/spec\.json must be JSON that bitward wrote, got Expecting"),
        ("[]", r"^.*/spec\.json must be JSON that bitward wrote, got a list: "),
        ('{"schema": 7}', r"^.*/spec\.json must be of schema 3, got 7: read it with the bitward that wrote it$"),
        (
            '{"schema": 3, "fingerprint": "x", "spec": {}}',
            r"^.*/spec\.json must carry the fingerprint of its spec, got ",
        ),
    ],
)
def test_a_damaged_spec_is_refused(store, content, sentence):
    (store.directory / "spec.json").write_text(content)
    with pytest.raises(StoreError, match=sentence):
        TrialStore.load(store.directory)


def test_a_spec_is_plain_json(tmp_path):
    for value in (np.int64(1), float("nan"), {1, 2}):
        with pytest.raises(StoreError, match=r"^a campaign's spec must be JSON values, got .*: use numbers, text "):
            TrialStore.open(tmp_path / "store", {"seed": value})


def test_the_result_is_kept(store):
    store.set_result({"restored_golden": True})
    assert TrialStore.load(store.directory).result() == {"restored_golden": True}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_loses_nothing(store, monkeypatch, number):
    store.append(trials(0))

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OutputError, match=r"^.*/part-00000001\.parquet must be "):
            store.append(trials(1))
    assert store.finished() == {0}
    store.append(trials(1))
    assert store.finished() == {0, 1}


def test_a_store_of_another_schema_is_another_campaign_so_that_restart_moves_it_aside(store):
    store.close()
    path = store.directory / "spec.json"
    path.write_text(path.read_text().replace('"schema": 3', '"schema": 1'))
    with pytest.raises(
        OtherCampaignError, match=r"^.*/spec\.json must be of schema 3, got 1: read it with the bitward"
    ):
        TrialStore.open(store.directory, SPEC)
