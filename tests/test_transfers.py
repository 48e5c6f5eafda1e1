"""Packs cut into transfers come out whole on the other side, or the fault and its remedy are said.

Packs are made up and a few KB long; limits and trees here are in proportion.
"""

import hashlib
import itertools
import json
import math
import os
import random
import re
import shutil
import subprocess
import tracemalloc
from multiprocessing import get_context

import pytest
from conftest import SHARED

from nestbook.run_plan.transfers import (
    describe_transfers,
    plan_transfers,
    take,
    tracked_bytes,
    write_transfers,
)

SIZES = {"train-a.tar.xz": 4001, "train-b.tar.xz": 5003, "test.tar.xz": 1501}
TOTAL = sum(SIZES.values())
TREE = 1000


def make_packs(folder, seed=0):
    folder.mkdir(exist_ok=True)
    draw = random.Random(seed)
    for name, size in SIZES.items():
        (folder / name).write_bytes(draw.randbytes(size))
    return [folder / name for name in SIZES]


@pytest.fixture
def packs(tmp_path):
    return make_packs(tmp_path / "packs")


def send(tmp_path, packs, count=3):
    """The folders of `count` transfers."""
    return write_transfers(tmp_path / "sent", packs, plan_transfers(packs, TREE, count=count))


def contents(folder):
    """Every file below a folder, by its path in it; empty folders too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def is_kept_whole(keep, packs):
    """Are the packs there, byte for byte, and nothing else?"""
    return contents(keep) == {path.name: path.read_bytes() for path in packs}


def has_damage(keep, packs):
    """Is a pack there, or a kept piece, that is not the packs' own bytes?"""
    for path in packs:
        data, whole = path.read_bytes(), keep / path.name
        kept = (keep / ".pieces" / path.name).glob("*")
        if any(piece.read_bytes() not in data for piece in kept):
            return True
        if whole.exists() and whole.read_bytes() != data:
            return True
    return False


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("limit_mb", [0.012, 0.02, 60])
def test_packs_come_out_as_they_went_in(tmp_path, packs, count, limit_mb):
    plan = plan_transfers(packs, TREE, limit_mb, count)
    assert len(plan) == count
    sizes = [sum(piece.size for piece in pieces) for pieces in plan]
    assert sum(sizes) == TOTAL and max(sizes) - min(sizes) <= 1
    for path in packs:  # each byte once, in order
        ranges = [(p.offset, p.size) for pieces in plan for p in pieces if p.pack == path.name]
        ends = [offset + size for offset, size in ranges]
        assert [offset for offset, _ in ranges] == [0, *ends[:-1]] and ends[-1] == SIZES[path.name]
    folders = write_transfers(tmp_path / "sent", packs, plan)
    assert [folder.name for folder in folders] == [str(n + 1) for n in range(count)]
    for folder in folders:
        take(folder, tmp_path / "keep")
    assert is_kept_whole(tmp_path / "keep", packs)


def test_any_order_and_what_is_missing_is_said(tmp_path, packs):
    """Cut at 3501 and 7003: of transfer 2, 500 bytes are of train-a and 3002 of train-b."""
    folders = send(tmp_path, packs)
    for number, order in enumerate(itertools.permutations(folders)):
        keep = tmp_path / f"keep{number}"
        said = [take(folder, keep) for folder in order]
        assert is_kept_whole(keep, packs)
        assert all("whole" in line for line in said[-1])
        assert [line.split(":")[0] for line in said[0]] == list(SIZES)
        for after, lines in enumerate(said):
            sent = {int(folder.name) for folder in order[: after + 1]}
            for line, needed in zip(lines, ({1, 2}, {2, 3}, {3})):
                asked = {int(n) for n in re.findall(r"\d+", line.partition("; send")[2])}
                assert asked == needed - sent and ("whole" in line) == (needed <= sent)
    keep = tmp_path / "alone"
    assert take(folders[1], keep) == [
        "train-a.tar.xz: 0.004 MB of 0.004 MB still missing; send transfer 1",  # 3501 of 4001 bytes
        "train-b.tar.xz: 0.002 MB of 0.005 MB still missing; send transfer 3",  # 2001 of 5003
        "test.tar.xz: 0.002 MB of 0.002 MB still missing; send transfer 3",
    ]


def test_a_transfer_taken_twice_changes_nothing(tmp_path, packs):
    folders, keep = send(tmp_path, packs), tmp_path / "keep"
    sent = [contents(folder) for folder in folders]
    for folder in folders:
        first = take(folder, keep)
        before = contents(keep)
        assert take(folder, keep) == first
        assert contents(keep) == before
    assert is_kept_whole(keep, packs)
    assert take(folders[0], keep) == first  # all whole
    assert [contents(folder) for folder in folders] == sent


def flip(path, at=0):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def truncate(path):
    os.truncate(path, path.stat().st_size - 1)


FAULTS = {
    "flipped first": flip,
    "flipped last": lambda path: flip(path, -1),
    "truncated": truncate,
    "emptied": lambda path: os.truncate(path, 0),
    "missing": os.unlink,
}


@pytest.mark.parametrize("file", ["train-a.tar.xz.3501", "train-b.tar.xz.0"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_piece_is_named_and_not_kept_and_sending_again_helps(tmp_path, packs, fault, file):
    folders, keep = send(tmp_path, packs), tmp_path / "keep"
    take(folders[0], keep)
    good = (folders[1] / file).read_bytes()
    FAULTS[fault](folders[1] / file)
    word = "missing" if fault == "missing" else "damaged"
    with pytest.raises(OSError, match=rf"2/{re.escape(file)} is {word}.*; send transfer 2 again"):
        take(folders[1], keep)
    assert not has_damage(keep, packs)
    assert not list(keep.rglob("*.part"))
    (folders[1] / file).write_bytes(good)
    for folder in folders[1:]:
        take(folder, keep)
    assert is_kept_whole(keep, packs)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_list_is_named(tmp_path, packs, fault):
    folders, keep = send(tmp_path, packs), tmp_path / "keep"
    FAULTS[fault](folders[0] / "pieces.json")
    with pytest.raises(OSError, match=r"1/pieces.json is .*; send this transfer again"):
        take(folders[0], keep)
    assert not keep.exists()


@pytest.mark.parametrize(
    "changes",
    [{"pack": name} for name in ("../outside", "/outside", "..", "", "a/b", 3)]
    + [{"offset": -1}, {"size": "1"}, {"total": True}, {"transfer": 1.5}, {"sha256": "0"}],
)
def test_a_list_of_pieces_that_none_could_be_is_refused(tmp_path, packs, changes):
    """A pack's name is a plain file's: nothing is written outside of the folder that keeps it."""
    folders, keep = send(tmp_path, packs), tmp_path / "keep"
    path = folders[0] / "pieces.json"
    content = json.loads(path.read_text())
    content["pieces"][0] |= changes
    path.write_text(json.dumps(content))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OSError, match=r"pieces.json is damaged .*; send this transfer again"):
        take(folders[0], keep)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_piece_damaged_while_it_was_kept_is_found_when_joined(tmp_path, packs):
    folders, keep = send(tmp_path, packs), tmp_path / "keep"
    take(folders[0], keep)
    (kept,) = (keep / ".pieces" / "train-a.tar.xz").iterdir()
    flip(kept)
    with pytest.raises(OSError, match=r"train-a.tar.xz, joined .* send transfers 1, 2 again"):
        take(folders[1], keep)
    assert not (keep / "train-a.tar.xz").exists() and not has_damage(keep, packs)
    for folder in folders:
        take(folder, keep)
    assert is_kept_whole(keep, packs)


def test_a_shortened_kept_piece_is_taken_again(tmp_path, packs):
    folders, keep = send(tmp_path, packs), tmp_path / "keep"
    take(folders[0], keep)
    (kept,) = (keep / ".pieces" / "train-a.tar.xz").iterdir()
    truncate(kept)
    assert "send transfers 1" in take(folders[2], keep)[0]
    for folder in folders:
        take(folder, keep)
    assert is_kept_whole(keep, packs)


def die_within(call, number, *arguments):
    """Run a call in a process that dies before its `number`-th step on the disk; did it die?"""

    def act():
        left = itertools.count(number, -1)
        for owner, step in ((os, "fsync"), (os, "replace"), (shutil, "rmtree")):
            setattr(owner, step, dying(getattr(owner, step), left))
        call(*arguments)

    def dying(step, left):
        def act(*arguments, **options):
            if next(left) == 0:
                os._exit(9)
            return step(*arguments, **options)

        return act

    process = get_context("fork").Process(target=act)
    process.start()
    process.join()
    assert process.exitcode in (0, 9)
    return process.exitcode == 9


@pytest.mark.parametrize("killed", [0, 1, 2])
def test_a_call_killed_at_any_step_is_made_good_by_the_next(tmp_path, packs, killed):
    folders = send(tmp_path, packs)
    for number in itertools.count():
        keep = tmp_path / f"keep{number}"
        for folder in folders[:killed]:
            take(folder, keep)
        died = die_within(take, number, folders[killed], keep)
        assert all(
            (keep / path.name).read_bytes() == path.read_bytes()
            for path in packs if (keep / path.name).exists()
        )  # fmt: skip
        for folder in folders[killed:]:
            take(folder, keep)
        assert is_kept_whole(keep, packs)
        if not died:
            break
    assert number > 2  # it was killed at several steps


def test_a_killed_write_is_made_good_by_the_next(tmp_path, packs):
    plan, folder = plan_transfers(packs, TREE, count=3), tmp_path / "sent"
    for number in itertools.count():
        send(tmp_path, make_packs(tmp_path / "older", seed=1), count=7)
        died = die_within(write_transfers, number, folder, packs, plan)
        for left in folder.iterdir():  # a transfer that looks whole is taken without a fault
            if (left / "pieces.json").exists():
                take(left, tmp_path / "keep" / f"{number}")
        folders = write_transfers(folder, packs, plan)
        assert sorted(folder.iterdir()) == folders
        for one in folders:
            take(one, tmp_path / f"keep{number}")
        assert is_kept_whole(tmp_path / f"keep{number}", packs)
        if not died:
            break
    assert number > 9  # seven deletions, three lists


def test_other_packs_of_the_same_names_do_not_mix(tmp_path, packs):
    """Also where one pack of the older ones is whole and pieces of another are kept."""
    keep = tmp_path / "keep"
    for folder in send(tmp_path, make_packs(tmp_path / "older", seed=1))[:2]:
        take(folder, keep)
    assert (keep / "train-a.tar.xz").exists()
    folders = send(tmp_path, packs)
    assert all("still missing" in line for line in take(folders[2], keep)[:2])
    for folder in folders[:2]:
        take(folder, keep)
    assert is_kept_whole(keep, packs)


def test_packs_cut_anew_on_the_way(tmp_path, packs):
    keep = tmp_path / "keep"
    take(send(tmp_path, packs, 2)[0], keep)
    for folder in send(tmp_path, packs, 5):
        take(folder, keep)
    assert is_kept_whole(keep, packs)


def test_what_else_is_in_the_folder_of_packs_stays(tmp_path, packs):
    keep = tmp_path / "keep"
    keep.mkdir()
    (keep / "test.tar").write_bytes(b"mine")
    (keep / "test.tar.xz").write_bytes(b"an older one")
    for folder in send(tmp_path, packs):
        take(folder, keep)
    assert (keep / "test.tar").read_bytes() == b"mine"
    (keep / "test.tar").unlink()
    assert is_kept_whole(keep, packs)


def test_pieces_lists_what_is_sent(tmp_path, packs):
    whole = {path.name: path.read_bytes() for path in packs}
    for number, folder in enumerate(send(tmp_path, packs), 1):
        content = json.loads((folder / "pieces.json").read_text())
        assert content["transfer"] == number
        mine = [piece for piece in content["pieces"] if piece["transfer"] == number]
        names = {f"{piece['pack']}.{piece['offset']}" for piece in mine}
        assert names | {"pieces.json"} == {path.name for path in folder.iterdir()}
        for piece in mine:
            pack = whole[piece["pack"]]
            data = pack[piece["offset"] : piece["offset"] + piece["size"]]
            assert (folder / f"{piece['pack']}.{piece['offset']}").read_bytes() == data
            assert piece["sha256"] == hashlib.sha256(data).hexdigest()
            assert piece["pack_sha256"] == hashlib.sha256(pack).hexdigest()
            assert piece["total"] == len(pack)


def test_earlier_transfers_are_replaced_and_nothing_else_is(tmp_path, packs):
    send(tmp_path, packs, 7)
    assert len(list((tmp_path / "sent").iterdir())) == 7
    folders = send(tmp_path, packs, 2)
    assert sorted((tmp_path / "sent").iterdir()) == folders
    plan = plan_transfers(packs, TREE)
    for strange in ("packs", "images", "notes"):
        folder = tmp_path / strange
        (folder / "3").mkdir(parents=True, exist_ok=True)
        (folder / "3" / "cat.1.png").write_bytes(b"mine")
        (folder / "4").mkdir()
        before = contents(folder)
        with pytest.raises(ValueError, match=r"holds .*3.*which is not a transfer; give a folder"):
            write_transfers(folder, packs, plan)
        assert contents(folder) == before


def test_a_pack_that_changed_since_it_was_planned_is_refused(tmp_path, packs):
    plan = plan_transfers(packs, TREE)
    truncate(packs[1])
    with pytest.raises(OSError, match=r"train-b.tar.xz has 5,002 bytes, .* 5,003; plan"):
        write_transfers(tmp_path / "sent", packs, plan)
    assert not (tmp_path / "sent").exists()


def test_a_limit_is_kept_to_the_byte(packs):
    """10,505 bytes: 3 transfers have 3,502 at most, 4 have 2,627."""
    assert plan_transfers(packs, TREE, 0.004502, 3)
    with pytest.raises(ValueError) as error:
        plan_transfers(packs, TREE, 0.004501, 3)
    for said in ("0.005 MB: 0.004 MB of packs and 0.001 MB of the tree", "0.004501 MB", "4 trans"):
        assert said in str(error.value)
    assert plan_transfers(packs, TREE, 0.004501, 4)


@pytest.mark.parametrize("limit", range(1001, 11_600, 97))
def test_as_many_transfers_as_are_advised_would_do_and_fewer_would_not(packs, limit):
    try:
        plan_transfers(packs, TREE, limit / 1e6, 1)
    except ValueError as error:
        advised = int(re.search(r"(\d+) transfers are enough", str(error))[1])
        plan_transfers(packs, TREE, limit / 1e6, advised)
        with pytest.raises(ValueError, match=f" {advised} transfers are enough"):
            plan_transfers(packs, TREE, limit / 1e6, advised - 1)
    else:
        assert limit >= TOTAL + TREE


def test_a_tree_above_the_limit_is_refused(packs):
    with pytest.raises(ValueError, match=r"tree alone has 60.000 MB and the limit is 60 MB; no"):
        plan_transfers(packs, 60_000_000)
    assert plan_transfers(packs, 60_000_000 - 3502)


@pytest.mark.parametrize("count", [0, -1])
def test_plans_of_nothing_are_refused(tmp_path, packs, count):
    with pytest.raises(ValueError, match=f"cannot be cut into {count}; give a count of 1"):
        plan_transfers(packs, TREE, count=count)
    (tmp_path / "empty").touch()
    for wrong in ([], [*packs, tmp_path / "empty"], [*packs, packs[0]]):
        with pytest.raises(ValueError, match="none of them empty and no two of one name"):
            plan_transfers(wrong, TREE)
    with pytest.raises(FileNotFoundError, match="absent"):
        plan_transfers([tmp_path / "absent"], TREE)


def make_sparse(folder, sizes):
    """Packs of some sizes that take no room."""
    for name, size in sizes.items():
        (folder / name).touch()
        os.truncate(folder / name, size)
    return [folder / name for name in sizes]


def test_the_dry_run_has_every_file_and_right_sums(tmp_path):
    packs = make_sparse(tmp_path, {"a.tar": 31_000_000, "b.tar": 8_000_000})
    text = describe_transfers(plan_transfers(packs, 17_250_000, 40, 2), 17_250_000, 40)
    assert text.splitlines() == [
        "transfer 1 of 2",
        "     19.500 MB  a.tar.0  (bytes 0 to 19,499,999 of 31,000,000)",
        "     17.250 MB  the tree",
        "     36.750 MB  together; the limit is 40 MB",
        "transfer 2 of 2",
        "     11.500 MB  a.tar.19500000  (bytes 19,500,000 to 30,999,999 of 31,000,000)",
        "      8.000 MB  b.tar.0  (bytes 0 to 7,999,999 of 8,000,000)",
        "     17.250 MB  the tree",
        "     36.750 MB  together; the limit is 40 MB",
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_the_dry_run_names_the_files_that_are_written(tmp_path, count):
    packs = make_sparse(tmp_path, {"a": 5_000_000, "b": 3_000_000, "c": 1_000_000})
    plan = plan_transfers(packs, 2_000_000, count=count)
    sections = describe_transfers(plan, 2_000_000).split("transfer ")[1:]
    for folder, section in zip(write_transfers(tmp_path / "sent", packs, plan), sections):
        shown = re.findall(r"([\d.]+) MB  (\S+)  \(", section)
        assert {name: float(mb) for mb, name in shown} == {
            path.name: pytest.approx(path.stat().st_size / 1e6, abs=0.0005)
            for path in folder.iterdir() if path.name != "pieces.json"
        }  # fmt: skip
        together = float(re.search(r"([\d.]+) MB  together", section)[1])
        assert together == pytest.approx(2 + sum(float(mb) for mb, _ in shown), abs=0.002)


@pytest.mark.skipif(not (SHARED / "data" / "cifar10").exists(), reason="needs ../shared")
def test_cifar10_fits_three_transfers():
    packs = [SHARED / "data" / "cifar10" / name for name in SIZES]
    total = sum(path.stat().st_size for path in packs)
    tree = 17_000_000
    text = describe_transfers(plan_transfers(packs, tree), tree)
    sums = [float(mb) for mb in re.findall(r"([\d.]+) MB  together", text)]
    assert len(sums) == 3 and max(sums) < 60
    assert sum(sums) == pytest.approx((total + 3 * tree) / 1e6, abs=0.002)
    with pytest.raises(ValueError, match=": 3 transfers are enough"):
        plan_transfers(packs, tree, count=2)


def test_packs_are_never_in_memory_whole(tmp_path):
    packs = make_sparse(tmp_path, {"large": 24_000_000})
    plan = plan_transfers(packs, 0, count=2)
    tracemalloc.start()
    try:
        for folder in write_transfers(tmp_path / "sent", packs, plan):
            take(folder, tmp_path / "keep")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 6_000_000  # half a piece
    assert (tmp_path / "keep" / "large").stat().st_size == 24_000_000


def git(folder, *words):
    subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)


def test_the_tree_is_what_git_tracks_or_does_not_ignore(tmp_path):
    git(tmp_path, "init")
    for name, size in {"tracked": 1000, "new": 300, "a folder/größe\n": 70, "ignored": 5e5}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(int(size)))
    (tmp_path / ".gitignore").write_text("ignored")  # 7 bytes
    (tmp_path / "gone").write_bytes(bytes(20_000))
    (tmp_path / "link").symlink_to("ignored")  # travels as a link, of 7 bytes
    git(tmp_path, "add", "tracked", "gone")
    (tmp_path / "gone").unlink()
    assert tracked_bytes(tmp_path) == 1000 + 300 + 70 + 7 + 7
    with (tmp_path / "tracked").open("ab") as file:
        file.write(b"more")
    assert tracked_bytes(tmp_path) == 1384 + 4


def test_a_folder_in_no_repository_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(OSError, match=f"no files of {tmp_path}: .*not a git repository"):
        tracked_bytes(tmp_path)


@pytest.mark.parametrize("limit_mb", [math.nan, math.inf, 0, -1])
def test_a_limit_that_is_none_is_refused(tmp_path, limit_mb):
    (tmp_path / "a.tar.xz").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"the limit of a transfer is .* a number above 0"):
        plan_transfers([tmp_path / "a.tar.xz"], 0, limit_mb)
    with pytest.raises(ValueError, match="give a count of 1 to 100000"):
        plan_transfers([tmp_path / "a.tar.xz"], 0, count=10**12)
