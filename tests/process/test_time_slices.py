"""TimeSlices: who computes for long lets others in between."""

import threading

import pytest

from mixpanel_visitor.process.time_slices import TimeSlices


class Computing:
    """A thread's processor time, and what it sleeps."""

    def __init__(self):
        self.cpu_s = 100.0
        self.slept = []

    def slices(self):
        return TimeSlices(slice_s=0.5, pause_s=0.125, cpu_time=lambda: self.cpu_s, sleep=self.slept.append)

    def over(self, slices, *, each_s, count):
        """Work on `count` items, `each_s` seconds each; return after how many it has slept, each time."""
        pauses = []
        for done, _ in enumerate(slices.over(range(count))):
            if len(self.slept) > len(pauses):
                pauses.append(done)
            self.cpu_s += each_s
        return pauses


@pytest.fixture
def computing():
    return Computing()


def test_it_sleeps_whenever_a_slice_is_used_up(computing):
    """Four eighths of a second make a slice of a half."""
    assert computing.over(computing.slices(), each_s=0.125, count=13) == [4, 8, 12]
    assert computing.slept == [0.125] * 3


def test_a_slice_goes_on_in_the_next_piece_of_work(computing):
    """Many small bodies one after the other are as long as a large one."""
    slices = computing.slices()
    for _ in range(5):
        computing.over(slices, each_s=0.25, count=1)
    assert computing.slept == [0.125] * 2


def test_each_thread_counts_for_itself(computing):
    """What one has computed is no reason for another to sleep."""
    slices = computing.slices()
    computing.cpu_s += 10
    thread = threading.Thread(target=slices.pause)
    thread.start()
    thread.join()
    assert computing.slept == []
    slices.pause()
    assert computing.slept == [0.125]
