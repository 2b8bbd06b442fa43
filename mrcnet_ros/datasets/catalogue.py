"""Facts about the datasets of the BOP challenge, one row each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """Facts that are not in the files of a dataset.

    :param test_split: folder of its test images.
    :param training_models: folder of the meshes that published networks were trained with.
    :param names: of the objects, from object id 1; empty where they have none.
    :param network_object_ids: BOP numbers of the published network's classes, in class order;
        empty where there is no published network.
    :param network_depth_range: near and far of depth over the crop's focal length [mm/px] of the
        published network; None where there is none.
    :param vsd_tolerance_m: of the visibility test of the VSD score.
    """

    test_split: str = 'test'
    training_models: str = 'models'
    names: tuple[str, ...] = ()
    network_object_ids: tuple[int, ...] = ()
    network_depth_range: tuple[float, float] | None = None
    vsd_tolerance_m: float = 0.015  # of the BOP challenge


_LINEMOD = ('ape', 'benchvise', 'bowl', 'camera', 'can', 'cat', 'cup', 'driller', 'duck', 'eggbox',
            'glue', 'holepuncher', 'iron', 'lamp', 'phone')

# depth ranges: of the published training code
DATASETS = {
    'hb': DatasetFacts(test_split='test_primesense'),
    'itodd': DatasetFacts(
        network_object_ids=tuple(range(1, 29)), network_depth_range=(0.01, 1.85),
        vsd_tolerance_m=0.005),  # its objects are small and its sensor is precise
    'lm': DatasetFacts(names=_LINEMOD),
    'lmo': DatasetFacts(
        names=_LINEMOD, network_object_ids=(1, 5, 6, 8, 9, 10, 11, 12),
        network_depth_range=(0.01, 2.15)),
    'tless': DatasetFacts(
        test_split='test_primesense', training_models='models_cad',
        network_object_ids=tuple(range(1, 31)), network_depth_range=(0.05, 1.7)),
    'ycbv': DatasetFacts(
        network_object_ids=tuple(range(1, 22)), network_depth_range=(0.03, 2.0)),
}


def facts_of(dataset: str) -> DatasetFacts:
    """Return the facts about a dataset, the defaults if it is not in the table."""
    return DATASETS.get(dataset, DatasetFacts())
