"""Data sets by name, and what is done to their batches."""

from nestlib.data.containers import FolderSet, ImageSet
from nestlib.data.datasets import dataset_info, list_datasets, load_dataset

__all__ = ["FolderSet", "ImageSet", "dataset_info", "list_datasets", "load_dataset"]
