"""Frames and segments: what a journal looks like on disk, whole and damaged."""

import os
import re
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.journals import run_python

from mixpanel_visitor.delivery.journal import frames
from mixpanel_visitor.delivery.journal.segments import (
    FileId,
    SegmentWriter,
    close_inherited,
    is_unlocked,
    list_segments,
    new_writer_id,
    segment_name,
    sync_path,
    writer_id_of,
)
from mixpanel_visitor.records import ENDPOINTS, Record

TIME_MS = 1_763_934_567_890
RECORDS = [
    Record("import", b'{"event":"a"}'),
    Record("engage", b'{"$set":{"b":1}}'),
    Record("import", b'{"event":"c"}'),
    Record("groups", b""),
    Record("import", b'{"event":"d"}'),
]


def one_by_one(records=RECORDS):
    """The frames of records, each for itself."""
    return [frames.encode([record], TIME_MS) for record in records]


def found(data):
    """The frames that a scan finds in `data`, in their order."""
    scan = frames.scan(data)
    starts = sorted(start for lane in scan.starts.values() for start in lane)
    return [data[start : frames.frame_end(data, start)] for start in starts]


# --- frames ------------------------------------------------------------------------------------


def test_the_format_is_pinned():
    """What is on disks out there must stay readable: this line may be added to, never changed."""
    line = b'1 i d20dc699 00000013 0001763934567890 {"event":"a"}\n'
    assert frames.encode([Record("import", b'{"event":"a"}')], TIME_MS) == line
    assert frames.frame_end(line, 0) == len(line)
    assert frames.scan(line).starts["import"] == [0]
    assert frames.time_ms_of(line) == TIME_MS


@pytest.mark.parametrize("without_isal", ["", "sys.modules['isal.isal_zlib'] = None"])
def test_the_checksum_is_the_same_with_isal_and_without(without_isal):
    """Processes with the extra and without share a spool."""
    script = f"""
import sys
{without_isal}
from mixpanel_visitor.delivery.journal import frames
from mixpanel_visitor.records import Record
print(frames.encode([Record("import", b'{{"event":"a"}}')], {TIME_MS}).decode(), frames.crc32.__module__)
"""
    line, module = run_python(script).splitlines()
    assert line == '1 i d20dc699 00000013 0001763934567890 {"event":"a"}'
    assert module.strip() == ("zlib" if without_isal else "isal.isal_zlib")


def test_every_lane_has_its_letter():
    """The first letters are all different."""
    lines = frames.encode([Record(endpoint, b"{}") for endpoint in ENDPOINTS], TIME_MS).splitlines()
    assert [line[2:3] for line in lines] == [b"i", b"e", b"g"]


def test_bodies_that_no_frame_can_hold_are_refused():
    """A newline would end the frame, and the length has eight digits."""
    with pytest.raises(ValueError, match="newline"):
        frames.encode([Record("import", b"a\nb")], TIME_MS)
    with pytest.raises(ValueError, match="is the most"):
        frames.encode([Record("import", bytes(frames.MAX_BODY_BYTES + 1))], TIME_MS)


@pytest.mark.parametrize("time_ms", [-5, 0, 10**15, 10**20])
def test_any_clock_fits(time_ms):
    """A clock that is far off must not make frames that cannot be read."""
    line = frames.encode([RECORDS[0]], time_ms)
    assert frames.frame_end(line, 0) == len(line)


def test_a_scan_finds_every_frame_in_its_lane():
    """Offsets are those of the frames' first bytes."""
    lines = one_by_one()
    scan = frames.scan(b"".join(lines))
    assert scan.starts["import"] == [0, len(lines[0] + lines[1]), len(b"".join(lines[:4]))]
    assert scan.starts["engage"] == [len(lines[0])]
    assert scan.damages == []
    assert scan.consumed == len(b"".join(lines))


def test_an_unfinished_frame_is_left_for_later():
    """Cut at any byte of the last frame: all before it are found, and nothing counts as damage."""
    lines = one_by_one()
    whole = b"".join(lines[:-1])
    for length in range(len(lines[-1])):
        scan = frames.scan(whole + lines[-1][:length])
        assert scan.consumed == len(whole)
        assert scan.damages == []
        assert found(whole + lines[-1][:length]) == lines[:-1]


def test_every_flipped_bit_costs_one_frame_and_no_other():
    """Header, body or newline; only damage to the last newline looks like an unfinished frame."""
    lines = one_by_one()
    data = b"".join(lines)
    owners = [index for index, line in enumerate(lines) for _ in line]
    for position, owner in enumerate(owners):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            scan = frames.scan(bytes(damaged))
            assert found(bytes(damaged)) == lines[:owner] + lines[owner + 1 :], (position, bit)
            if scan.consumed == len(data):
                assert sum(damage.end - damage.start for damage in scan.damages) == len(lines[owner])
                assert not any(damage.is_newer for damage in scan.damages)
            else:
                assert position == len(data) - 1


def test_damage_is_reported_in_one_piece():
    """What lies side by side is one damage."""
    lines = one_by_one()
    data = lines[0] + b"rubbish\n\nmore rubbish\n" + lines[1]
    assert frames.scan(data).damages == [
        frames.Damage(len(lines[0]), len(data) - len(lines[1]), is_newer=False)
    ]


def test_lines_of_a_later_version_are_told_from_damage():
    """But our own line with one bit of its version flipped is damage."""
    assert frames.scan(b"2 whatever that is\n").damages == [frames.Damage(0, 19, is_newer=True)]
    damaged = b"3" + one_by_one()[0][1:]
    assert frames.scan(damaged).damages == [frames.Damage(0, len(damaged), is_newer=False)]


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_frames_that_damage_has_not_touched_are_found(data):
    """Bytes overwritten anywhere: whatever is intact, with the newline before it, is found, nothing else."""
    lines = one_by_one()
    whole = bytearray(b"".join(lines))
    hits = data.draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=8))
    for position, value in hits:
        whole[position] = value
    kept, start = [], 0
    for line in lines:
        intact = bytes(whole[start : start + len(line)]) == line
        if intact and (start == 0 or whole[start - 1] == 10):
            kept.append(line)
        start += len(line)
    got = found(bytes(whole))
    assert [line for line in got if line in kept] == kept
    assert set(got) <= set(lines)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_make_a_scan_fail(data):
    """Whatever is in a file, it is scanned, and every byte before the last newline is judged."""
    scan = frames.scan(data)
    assert scan.consumed == data.rfind(b"\n") + 1
    assert frames.time_ms_of(data) is None or frames.time_ms_of(data) >= 0


# --- segments ----------------------------------------------------------------------------------


def test_names_sort_by_age_and_are_never_the_same():
    """The time is padded; the rest keeps processes, and lives of one process, apart."""
    writer_id = new_writer_id()
    names = [segment_name(time_ms=ms, writer_id=writer_id, sequence=1) for ms in (0, 999, 10**12, 10**13)]
    assert names == sorted(names)
    assert [writer_id_of(name) for name in names] == [writer_id] * 4
    assert new_writer_id() != writer_id
    assert re.fullmatch(
        rf"\d{{16}}-[0-9a-f]{{8}}-{os.getpid()}-[0-9a-f]{{8}}-000007\.seg",
        segment_name(time_ms=5, writer_id=writer_id, sequence=7),
    )


def test_a_segment_is_private_and_locked_from_the_first_moment_it_can_be_seen(tmp_path):
    """Events are personal data; and an unlocked segment counts as a dead writer's."""
    path = tmp_path / "a.seg"
    writer = SegmentWriter(path, opened_s=0.0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not is_unlocked(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.seg"]
    writer.append(b"x\n")
    writer.close()
    assert is_unlocked(path)
    assert path.read_bytes() == b"x\n"


def test_a_segment_without_a_frame_is_removed_on_close(tmp_path):
    """It was begun for a write that failed."""
    writer = SegmentWriter(tmp_path / "a.seg", opened_s=0.0)
    writer.close()
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_a_segment_that_cannot_be_created_leaves_nothing(tmp_path):
    """A directory stands in its place."""
    (tmp_path / "a.seg" / "b").mkdir(parents=True)
    with pytest.raises(OSError):
        SegmentWriter(tmp_path / "a.seg", opened_s=0.0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.seg"]


def test_a_dropped_writer_frees_its_lock(tmp_path):
    """Journals may be forgotten without a close."""
    path = tmp_path / "a.seg"
    SegmentWriter(path, opened_s=0.0).append(b"x\n")
    assert is_unlocked(path)


def test_a_short_write_is_taken_back():
    """A file that may not grow takes a part of a write; the file ends where it did before."""
    printed = run_python(
        """
import os, resource, tempfile
from pathlib import Path
from mixpanel_visitor.delivery.journal.segments import SegmentWriter

with tempfile.TemporaryDirectory() as directory:
    path = Path(directory, "a.seg")
    writer = SegmentWriter(path, opened_s=0.0)
    writer.append(b"good\\n")
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, resource.RLIM_INFINITY))
    for size in (100, 16, 15):
        try:
            writer.append(b"x" * size)
            print("written", size)
        except OSError as error:
            print(os.strerror(error.errno), "only" in str(error), path.read_bytes())
    writer.close()
"""
    )
    assert printed.splitlines() == [
        "No space left on device True b'good\\n'",
        "No space left on device True b'good\\n'",
        "written 15",
    ]


def test_a_writer_notices_that_its_file_is_gone(tmp_path):
    """Deleted, replaced, or moved away with its directory."""
    directory = tmp_path / "spool"
    directory.mkdir()
    path = directory / "a.seg"
    writer = SegmentWriter(path, opened_s=0.0)
    writer.append(b"x\n")
    assert writer.is_in_place()
    directory.rename(tmp_path / "elsewhere")
    assert not writer.is_in_place()
    directory.mkdir()
    path.write_bytes(b"y\n")
    assert not writer.is_in_place()
    path.unlink()
    (tmp_path / "elsewhere" / "a.seg").rename(path)
    assert writer.is_in_place()
    writer.close()


def test_an_inherited_descriptor_is_closed_only_if_it_is_still_the_same_file(tmp_path):
    """A daemon may have closed everything, and the number may mean another file by now."""
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "b").write_bytes(b"")
    ours = FileId.of_path(tmp_path / "a")
    fd = os.open(tmp_path / "b", os.O_RDONLY)
    close_inherited(fd, ours)
    os.fstat(fd)
    close_inherited(fd, FileId.of_path(tmp_path / "b"))
    with pytest.raises(OSError):
        os.fstat(fd)
    close_inherited(fd, ours)
    close_inherited(-1, ours)


def test_files_and_directories_can_be_synced(tmp_path):
    """Both are needed: the bytes, and the name under which they are found."""
    (tmp_path / "a.seg").write_bytes(b"x")
    sync_path(tmp_path / "a.seg")
    sync_path(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync_path(tmp_path / "missing")


def test_a_directory_is_listed_by_kind(tmp_path):
    """Segments with their sizes, leftovers, and nothing else."""
    (tmp_path / "1.seg").write_bytes(b"abc")
    (tmp_path / "2.seg.tmp").write_bytes(b"")
    (tmp_path / "VERSION").write_bytes(b"1\n")
    assert list_segments(tmp_path) == ({"1.seg": 3}, ["2.seg.tmp"])
    assert list_segments(tmp_path / "missing") == ({}, [])
