"""ImageNet's boxes follow the resized image; files that are missing or damaged are named."""

import numpy as np
import pytest
from test_accuracy import read_folder, save_classes
from test_localizations import write_boxes

from nestbook.evaluations import imagenet_boxes
from nestbook.evaluations.imagenet_boxes import FOLDERS, load_imagenet_boxes

OTHER = "n00000001"


@pytest.fixture
def images(tmp_path):
    save_classes(tmp_path / "imagenet" / "val")
    return read_folder(tmp_path / "imagenet")


def wnid_of(images, index):
    return images.class_names[images.labels[index]]


def write_all(images, folder, edges=(10, 20, 30, 60), size=(100, 200)):
    for index in range(len(images)):
        write_boxes(folder, f"{index:02}", size, [(wnid_of(images, index), edges)])


def test_boxes_are_scaled_with_the_image(images):
    write_all(images, images.root / "bbox" / "val")
    boxes = load_imagenet_boxes(images, 50)
    assert boxes.shape == (len(images), 1, 4)
    # Edges 10 and 30 of 100 become 5 and 15 of 50, so pixels 5 to 14; so do 20 and 60 of 200.
    assert (boxes == [5, 5, 14, 14]).all()
    assert (load_imagenet_boxes(images, 100) == [10, 10, 29, 29]).all()


def test_a_whole_box_covers_all_pixels_and_a_tiny_one_covers_one(images):
    folder = images.root / "bbox" / "val"
    write_all(images, folder, (0, 0, 100, 200))
    write_boxes(folder, "00", (100, 200), [(wnid_of(images, 0), (100, 200, 100, 200))])
    boxes = load_imagenet_boxes(images, 32)
    assert boxes[0, 0].tolist() == [31, 31, 31, 31]
    assert (boxes[1:] == [0, 0, 31, 31]).all()


def test_images_of_several_objects_are_padded_and_other_classes_left_out(images):
    folder = images.root / "bbox" / "val"
    write_all(images, folder)
    own = wnid_of(images, 3)
    several = [(own, (0, 0, 50, 50)), (OTHER, (0, 0, 9, 9)), (own, (50, 100, 100, 200))]
    write_boxes(folder, "03", (100, 200), several)
    boxes = load_imagenet_boxes(images, 100)
    assert boxes[3].tolist() == [[0, 0, 49, 24], [50, 50, 99, 99]]
    assert (boxes[np.arange(len(images)) != 3, 1] == -1).all()


@pytest.mark.parametrize("layout", FOLDERS[:-1])
def test_the_layouts_are_found(images, layout):
    write_all(images, images.root / layout.format("val"))
    assert len(load_imagenet_boxes(images, 50)) == len(images)


def test_files_by_class_are_found(images):
    for index in range(len(images)):
        wnid = wnid_of(images, index)
        write_boxes(
            images.root / "bbox" / "val" / wnid, f"{index:02}", (100, 200), [(wnid, (0, 0, 9, 9))]
        )
    assert len(load_imagenet_boxes(images, 50)) == len(images)


def test_what_is_missing_or_damaged_is_named(images):
    folder = images.root / "bbox" / "val"
    with pytest.raises(FileNotFoundError, match=r"(?s)no box file 00\.xml.*ILSVRC2012_bbox_val_v3"):
        load_imagenet_boxes(images, 50)
    write_all(images, folder)
    (folder / "05.xml").write_text("<annotation>")
    with pytest.raises(ValueError, match=r"05\.xml is not an annotation of boxes"):
        load_imagenet_boxes(images, 50)
    write_boxes(folder, "05", (100, 200), [(OTHER, (0, 0, 9, 9))])
    with pytest.raises(ValueError, match=rf"05\.xml has no box .* {wnid_of(images, 5)}"):
        load_imagenet_boxes(images, 50)
    (folder / "05.xml").unlink()
    with pytest.raises(FileNotFoundError, match=r"no box file .*05\.xml"):
        load_imagenet_boxes(images, 50)
    write_boxes(folder, "05", ("", 200), [(wnid_of(images, 5), (0, 0, 9, 9))])
    with pytest.raises(ValueError, match=r"05\.xml is not an annotation"):
        load_imagenet_boxes(images, 50)


def read_one(images, edges, size=(100, 200), image_size=100):
    write_all(images, images.root / "bbox" / "val", edges, size)
    return load_imagenet_boxes(images, image_size)[0, 0].tolist()


def test_exchanged_corners_are_put_in_order_and_what_lies_outside_is_cut_off(images):
    assert read_one(images, (30, 60, 10, 20)) == read_one(images, (10, 20, 30, 60))
    assert read_one(images, (-50, -1, 1e300, 70_000)) == [0, 0, 99, 99]
    assert read_one(images, (90, 20, 101, 60)) == [90, 10, 99, 29]
    assert read_one(images, (10.4, 20.9, 29.6, 60.2)) == [10, 10, 29, 29]


@pytest.mark.parametrize(
    ("edges", "size", "reason"),
    [
        ((101, 0, 120, 9), (100, 200), "101, 0, 120, 9 is outside its image, 0 to 100 across"),
        ((0, -9, 5, -1), (100, 200), "is outside"),
        (("nan", 0, 5, 9), (100, 200), "not a finite number"),
        (("five", 0, 5, 9), (100, 200), "'five'"),
        ((0, 0, 5, 9), ("nan", 200), "an image of nan x 200 pixels"),
        ((0, 0, 5, 9), (100, "inf"), "an image of 100 x inf pixels"),
        ((0, 0, 5, 9), ("1e300", 200), "an image of 1e300 x 200 pixels"),
        ((0, 0, 5, 9), (0, 200), "an image of 0 x 200 pixels"),
        ((0, 0, 5, 9), (-100, -200), "an image of -100 x -200 pixels"),
    ],
)
def test_what_is_no_box_or_size_is_named(images, edges, size, reason):
    with pytest.raises(ValueError, match=rf"00\.xml is not an annotation of boxes \(.*{reason}"):
        read_one(images, edges, size)


def test_a_file_of_an_unknown_encoding_is_named(images):
    write_all(images, images.root / "bbox" / "val")
    (images.root / "bbox" / "val" / "03.xml").write_text('<?xml version="1.0" encoding="no"?><a/>')
    with pytest.raises(ValueError, match=r"03\.xml is not an annotation of boxes"):
        load_imagenet_boxes(images, 50)


def test_a_file_of_another_picture_is_told(images, caplog):
    """Its boxes may be those of that picture; a file of the same proportions is not told."""
    width, height = images.read_image(3).size
    write_all(images, images.root / "bbox" / "val", (0, 0, 2, 2), (2 * width, 2 * height))
    for index in range(len(images)):
        w, h = images.read_image(index).size
        write_boxes(
            images.root / "bbox" / "val", f"{index:02}", (2 * w, 2 * h),
            [(wnid_of(images, index), (0, 0, 2, 2))],
        )  # fmt: skip
    load_imagenet_boxes(images, 50)
    assert not caplog.text
    write_boxes(
        images.root / "bbox" / "val",
        "03",
        (width, 3 * height),
        [(wnid_of(images, 3), (0, 0, 2, 2))],
    )
    load_imagenet_boxes(images, 50)
    assert "other proportions than the pictures have: 1 of 12, such as" in caplog.text
    assert "03.xml is of" in caplog.text


def test_files_of_any_size_are_refused(images, monkeypatch):
    """By bytes, by boxes, and those that declare entities, whose text has any length."""
    folder = images.root / "bbox" / "val"
    write_all(images, folder)
    text = (folder / "02.xml").read_text()
    (folder / "02.xml").write_text(f'<!DOCTYPE a [<!ENTITY e "x">]>{text}')
    with pytest.raises(ValueError, match=r"02\.xml is not .*it declares a document type"):
        load_imagenet_boxes(images, 50)
    (folder / "02.xml").write_text(text)
    with monkeypatch.context() as patch:
        patch.setattr(imagenet_boxes, "XML_BYTES", 100)
        with pytest.raises(ValueError, match=r"00\.xml is not .*bytes, more than 100"):
            load_imagenet_boxes(images, 50)
    monkeypatch.setattr(imagenet_boxes, "MOST_BOXES", 1)
    write_boxes(folder, "02", (100, 200), [(wnid_of(images, 2), (0, 0, 9, 9))] * 2)
    with pytest.raises(ValueError, match=r"02\.xml has 2 boxes; the limit is 1"):
        load_imagenet_boxes(images, 50)
