"""Boxes in tables are read rightly, or refused with the file and the line where they stand."""

import logging

import numpy as np
import pytest

from nestlib.data.boxes import arrange_boxes, fit_box, gather_boxes, read_words

TRAIN, VAL, CSV = "tiny/train/n1/n1_boxes.txt", "tiny/val/val_annotations.txt", "tiny/boxes.csv"
HEADER = "split,wnid,file,x0,y0,x1,y1\n"


def gather(path, text, split="train"):
    data = text if isinstance(text, bytes) else text.encode()
    found = gather_boxes([(path, data)], split, 64)
    return {key: box for key, (box, _) in found.items()}


@pytest.mark.parametrize(
    ("row", "box"),
    [
        ("0\t1\t62\t63", (0, 1, 62, 63)),
        ("5\t5\t5\t5", (5, 5, 5, 5)),  # one pixel; the real tables hold 91 boxes of no width
        ("30\t40\t10\t20", (10, 20, 30, 40)),  # corners exchanged
        ("10\t40\t30\t20", (10, 20, 30, 40)),
        ("-5\t-1\t10\t20", (0, 0, 10, 20)),
        ("50\t0\t70000\t1e300", (50, 0, 63, 63)),
        ("1.4\t1.6\t10.0\t62.7", (1, 2, 10, 63)),  # to the nearest pixel
        ("1\t2\t3\t9223372036854775807", (1, 2, 3, 63)),
        (" 1\t2 \t3\t4\t\r", (1, 2, 3, 4)),
    ],
)
def test_edges_are_put_in_order_and_cut_to_the_image(row, box):
    assert gather(TRAIN, f"a.JPEG\t{row}\n") == {("n1", "a"): box}
    fields = row.strip().split("\t")
    assert gather(VAL, "\t".join(["a.JPEG", "n2", *fields]), "test") == {("n2", "a"): box}
    assert gather(CSV, ",".join(["train", "n3", "a.JPEG", *fields])) == {("n3", "a"): box}


@pytest.mark.parametrize(
    ("edges", "reason"),
    [
        ("64 0 70 9", "the box 64, 0, 70, 9 is outside its image, 0 to 63 across"),
        ("0 -9 5 -1", "is outside"),
        ("-1 -1 -1 -1", "is outside"),
        ("nan 1 2 3", "not a finite number"),
        ("1 inf 2 3", "not a finite number"),
        ("1 two 2 3", "could not convert string to float: 'two'"),
        ("1 0x2 2 3", "'0x2'"),
        ("1 2 3", "are not .*x0, y0, x1, y1"),
        ("1 2 3 4 5", "are not .*x0, y0, x1, y1"),
    ],
)
def test_what_is_no_box_is_named_with_file_and_line(edges, reason):
    fields = edges.split()
    for path, start, mark in (
        (TRAIN, ["a.JPEG"], "\t"),
        (VAL, ["a.JPEG", "n1"], "\t"),
        (CSV, ["train", "n1", "a.JPEG"], ","),
    ):
        good = [*start, "1", "2", "3", "4"]
        text = "\n".join(mark.join(row) for row in (good, [], [*start, *fields]))
        split = "test" if path == VAL else "train"
        with pytest.raises(ValueError, match=rf"{path}, line 3: .*{reason}"):
            gather(path, text, split)


def test_fitted_boxes_cover_the_pixels_of_the_drawn_ones():
    """Against boxes painted on a canvas around the image, cut out of it again."""
    rng, margin, width, height, inside = np.random.default_rng(0), 9, 13, 7, 0
    for _ in range(2000):
        edges = rng.integers(-margin, (width + margin, height + margin) * 2)
        (x0, x1), (y0, y1) = np.sort(edges[::2]) + margin, np.sort(edges[1::2]) + margin
        canvas = np.zeros((height + 2 * margin, width + 2 * margin), bool)
        canvas[y0 : y1 + 1, x0 : x1 + 1] = True
        rows, columns = canvas[margin:-margin, margin:-margin].nonzero()
        texts = [str(edge) for edge in edges]
        if not len(rows):
            with pytest.raises(ValueError, match="is outside"):
                fit_box(texts, width - 1, height - 1)
            continue
        inside += 1
        expected = columns.min(), rows.min(), columns.max(), rows.max()
        assert fit_box(texts, width - 1, height - 1) == expected
    assert 500 < inside < 1900


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (TRAIN, "a.JPEG\t1\t2\t3\t4\r\n\r\n \t \r\nmy b.JPEG\t5\t6\t7\t8\r\n"),
        (TRAIN, "\ufeffa.JPEG\t1\t2\t3\t4\rmy b.JPEG\t5\t6\t7\t8"),
        (TRAIN, "a.JPEG 1  2 3 4 \nmy b.JPEG\t5\t6\t7\t8"),
        (TRAIN, "a.JPEG\t1\t2\t3\t4\na.JPEG\t1\t2\t3\t4\nmy b.JPEG\t5\t6\t7\t8"),  # twice the same
        (CSV, f"{HEADER}train,n1,a.JPEG,1,2,3,4\r\n,,,,,,\r\ntrain, n1, my b.JPEG, 5, 6, 7, 8"),
        (
            CSV,
            f'"Split",wnid,{HEADER[11:]}"train","n1","a.JPEG",1,2,3,4\ntrain,n1,my b.png,5,6,7,8',
        ),
    ],
)
def test_tables_as_people_save_them(path, text):
    assert gather(path, text) == {("n1", "a"): (1, 2, 3, 4), ("n1", "my b"): (5, 6, 7, 8)}


def test_latin_1_is_read():
    assert gather(TRAIN, "café.JPEG\t1\t2\t3\t4".encode("latin-1")) == {
        ("n1", "café"): (1, 2, 3, 4)
    }
    words = "n1\tcafé, place\r\n\r\nn2 two words\nn3\n"
    expected = {"n1": "café, place", "n2": "two words", "n3": ""}
    for encoding in ("utf-8", "utf-8-sig", "latin-1"):
        assert read_words(("words.txt", words.encode(encoding))) == expected


def test_rows_of_the_other_split_are_left_out_and_of_none_refused():
    text = f"{HEADER}train,n1,a.JPEG,1,2,3,4\nval,n1,a.JPEG,5,6,7,8\n"
    assert gather(CSV, text, "train") == {("n1", "a"): (1, 2, 3, 4)}
    assert gather(CSV, text, "test") == {("n1", "a"): (5, 6, 7, 8)}
    with pytest.raises(ValueError, match=r"boxes\.csv, line 4: .*train or val first"):
        gather(CSV, f"{text}test,n1,a.JPEG,1,2,3,4")
    with pytest.raises(ValueError, match=r"boxes\.csv, line 1: 'split, wnid, file, x0, x1, y0, y1"):
        gather(CSV, "split,wnid,file,x0,x1,y0,y1\n")  # columns in another order


def test_an_image_listed_twice_with_other_boxes_is_named():
    tables = [(TRAIN, b"a.JPEG\t1\t2\t3\t4"), (CSV, b"\ntrain,n1,a.JPEG,1,2,3,5")]
    with pytest.raises(
        ValueError, match=rf"{CSV}, line 2: a\.JPEG has another box in {TRAIN}, line 1"
    ):
        gather_boxes(tables, "train", 64)
    text = f"{HEADER}train,n1,a.JPEG,1,2,3,4\ntrain,n2,a.JPEG,1,2,3,5"  # of two classes
    assert gather(CSV, text) == {("n1", "a"): (1, 2, 3, 4), ("n2", "a"): (1, 2, 3, 5)}


def test_boxes_stand_by_their_images_and_strange_ones_are_told(caplog):
    found = gather_boxes([(CSV, b"train,n1,a.JPEG,1,2,3,4\ntrain,n2,b.JPEG,5,6,7,8")], "train", 64)
    boxes = arrange_boxes(found, [("n2", "a"), ("n2", "b"), ("n1", "a")])
    assert boxes.dtype == np.int16 and not caplog.text
    assert boxes.tolist() == [[[-1] * 4], [[5, 6, 7, 8]], [[1, 2, 3, 4]]]
    with caplog.at_level(logging.WARNING):
        arrange_boxes(found, [("n2", "b")], part=True)
        assert not caplog.text
        assert arrange_boxes(found, [("n2", "b")]).tolist() == [[[5, 6, 7, 8]]]
    assert (
        f"boxes of images that are not here: 1, such as {CSV}, line 1: a of class n1" in caplog.text
    )
    with pytest.raises(
        ValueError, match=rf"{CSV}, line 1: a of class n1 is not an image here, and neither"
    ):
        arrange_boxes(found, [("n1", "b"), ("n2", "a")])
