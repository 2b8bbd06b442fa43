"""The feature cache holds what was used last, within its bound."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from mrcnet_ros.errors import SpecError
from mrcnet_ros.inference.feature_cache import FeatureCache


def features(value: int, floats: int = 25) -> dict[str, np.ndarray]:
    """Return 4 * floats bytes."""
    return {'t4': np.full(floats, value, np.float32)}


def test_what_was_put_is_found() -> None:
    """Entries and held bytes are known."""
    cache = FeatureCache(1000)
    assert cache.get(('duck', 4)) is None
    cache.put(('duck', 4), features(7))
    found = cache.get(('duck', 4))
    assert found is not None and (found['t4'] == 7).all()
    assert len(cache) == 1 and cache.size_bytes == 100


def test_the_least_recently_used_gives_way() -> None:
    """A look-up protects an entry; the one unused for longest is dropped first."""
    cache = FeatureCache(300)
    for key in 'abc':
        cache.put(key, features(ord(key)))
    cache.get('a')
    cache.put('d', features(0))
    assert cache.get('b') is None
    assert all(cache.get(key) is not None for key in 'acd')
    assert cache.size_bytes == 300


def test_the_bound_is_never_exceeded() -> None:
    """Whatever is put, the held bytes stay within the capacity and add up."""
    cache, rng = FeatureCache(2000), np.random.default_rng(0)
    for number in range(300):
        cache.put(int(rng.integers(40)), features(number, int(rng.integers(1, 200))))
        assert cache.size_bytes <= 2000
    held = [cache.get(key) for key in range(40)]
    total = sum(entry['t4'].nbytes for entry in held if entry is not None)
    assert total == cache.size_bytes > 1000


def test_an_entry_put_again_replaces_the_old_one() -> None:
    """Bytes are not counted twice, and an entry too large removes its older self."""
    cache = FeatureCache(500)
    cache.put('a', features(1))
    cache.put('a', features(2, 50))
    found = cache.get('a')
    assert found is not None and found['t4'][0] == 2 and cache.size_bytes == 200
    cache.put('a', features(3, 1000))
    assert cache.get('a') is None and cache.size_bytes == 0


def test_entries_are_copies_that_nobody_can_change() -> None:
    """A slice of a batch neither keeps the batch alive nor follows its changes."""
    batch = np.zeros((64, 25), np.float32)
    cache = FeatureCache(1000)
    cache.put('a', {'t4': batch[3]})
    batch[3] = 9
    found = cache.get('a')
    assert found is not None and not found['t4'].any() and found['t4'].base is None
    with pytest.raises(ValueError, match='read-only'):
        found['t4'][0] = 1


def test_nothing_is_held_without_room_or_after_clearing() -> None:
    """A capacity of zero turns the cache off; clearing frees everything."""
    off, cache = FeatureCache(0), FeatureCache(1000)
    off.put('a', features(1))
    cache.put('a', features(1))
    cache.clear()
    assert off.get('a') is None and cache.get('a') is None
    assert cache.size_bytes == 0 and len(cache) == 0
    with pytest.raises(SpecError, match='-5'):
        FeatureCache(-5)


def test_threads_share_it_safely() -> None:
    """Under concurrent use every entry is whole, and the bytes add up."""
    cache, torn = FeatureCache(5000), []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(500):
            key = int(rng.integers(100))
            found = cache.get(key)
            if found is None:
                cache.put(key, features(key))
            elif (found['t4'] != key).any():
                torn.append(key)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not torn and cache.size_bytes == 100 * len(cache) <= 5000
